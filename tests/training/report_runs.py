"""A made-up training run over drawn photos, with names as hostile as a file system allows."""

import dataclasses
from pathlib import Path

import numpy as np

from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.report import Report
from shop_similarity.training.triplets.table import Triplets
from tests.shop_similarity.drawn_photos import products

HOSTILE = 'x"><script>alert(1)</script><img src=x onerror=alert(2)>'


def drawn_photos(folder: Path, count: int = 24, size: tuple[int, int] = (96, 96)) -> list[str]:
    """Two photos of each of ``count`` products; names relative to the folder, the first one hostile."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for place, product in enumerate(products(count)):
        for seed in range(2):
            # A slash can't stand in a file's name.
            stem = HOSTILE.replace("/", "∕") if not names else f"{place:03d}-{product.kind}-{product.colour}-{seed}"
            (folder / f"{stem}.jpg").write_bytes(product.photo(size=size, seed=seed))
            names.append(f"{stem}.jpg")
    return names


def triplets_of(folder: Path, names: list[str], per_query: int = 2) -> Triplets:
    """Both photos of a product as query and positive, any other as the negative."""
    dice = np.random.default_rng(0)
    rows, kinds = [], []
    for query in range(len(names)):
        for _ in range(per_query):
            negative = query
            while negative // 2 == query // 2:
                negative = int(dice.integers(len(names)))
            rows.append((query, query ^ 1, negative))
            kinds.append("in_class_hard" if negative % 2 else "out_of_class")
    return Triplets(tuple(names), np.array(rows), ["instance_view"] * len(rows), kinds, folder)


def embeddings_of(count: int, noise: float = 0.6, dimensions: int = 64) -> np.ndarray:
    """``(count, dimensions)``: photos 2k and 2k + 1 lie near each other."""
    dice = np.random.default_rng(1)
    products_of = np.repeat(dice.normal(size=((count + 1) // 2, dimensions)), 2, axis=0)[:count]
    return (products_of + noise * dice.normal(size=(count, dimensions))).astype(np.float32)


def retrieval_set_of(folder: Path, names: list[str]) -> RetrievalSet:
    """Every photo searches for the other one of its product, exact or partial by turns."""
    count = len(names)
    relevance = np.zeros((count, count), dtype=np.int8)
    for query in range(count):
        relevance[query, query ^ 1] = 2 if query % 4 < 2 else 1
    return RetrievalSet(
        folder,
        tuple(folder / name for name in names),
        np.arange(count),
        np.arange(count),
        tuple(names),
        tuple(names),
        relevance,
        np.eye(count, dtype=bool),
    )


def look_alike_set_of(folder: Path, names: list[str]) -> RetrievalSet:
    """Every photo asks for other products; those of the fourth product after it are of its colour."""
    count = len(names)
    product = np.arange(count) // 2
    apart = np.abs(product[:, None] - product[None, :])
    relevance = np.where(apart == 4, 2, (apart % 2 == 0).astype(int)).astype(np.int8)
    photos = retrieval_set_of(folder, names)
    return dataclasses.replace(photos, relevance=relevance, left_out=apart == 0)


def evaluation(recall: float, accuracy: float, spread: float = 0.03, queries: str = "a" * 64) -> dict:
    """What an evaluation's ``to_dict()`` gives."""
    looks = ("ndcg_at_10", "mean_average_precision", "recall_at_1")
    values = {
        "recall_at_1": recall,
        "recall_at_5": recall + 0.06,
        "map_at_r": recall - 0.2,
        "mean_average_precision": recall - 0.1,
        "ndcg_at_10": recall - 0.05,
    }
    return {
        "set": queries,
        "look_alike": {
            "set": queries,
            "queries": 120,
            "exact_queries": 100,
            "gallery": 644,
            "groups": 15,
            "min_relevance": 2,
            **{name: recall - 0.3 for name in looks},
            "intervals": {name: [recall - 0.3 - spread, recall - 0.3 + spread] for name in looks},
        },
        "retrieval": {
            "set": queries,
            "queries": 103,
            "gallery": 644,
            "groups": 23,
            "min_relevance": 1,
            **values,
            "intervals": {name: [value - spread, value + spread] for name, value in values.items()},
        },
        "triplets": {
            "set": queries,
            "triplets": 1638,
            "groups": 300,
            "accuracy": accuracy,
            "intervals": {"accuracy": [accuracy - spread / 2, accuracy + spread / 2]},
            "by_positive_type": {
                "instance_view": {"triplets": 900, "accuracy": accuracy, "interval": [accuracy - 0.02, accuracy]}
            },
            "by_negative_type": {},
            "validation_block": {"mean": accuracy, "spread": 0.01, "draws": [accuracy] * 5, "size": 128},
        },
        "codes": {
            "k": 10,
            "queries": 644,
            "gallery": 644,
            "recall": {"50": 0.93, "200": 0.99},
            "intervals": {"50": [0.92, 0.94], "200": [0.985, 0.993]},
        },
    }


def drawn_report(folder: Path) -> Report:
    """A report with every part."""
    names = drawn_photos(folder)
    epochs = range(1, 13)
    history = [
        {
            "epoch": epoch,
            "loss": 0.6 * 0.8**epoch + 0.05,
            "val_loss": 0.6 * 0.85**epoch + 0.08 + (0.002 * epoch if epoch > 8 else 0),
            "accuracy": 1 - 0.2 * 0.8**epoch,
            "val_accuracy": 1 - 0.2 * 0.88**epoch,
            "recall_at_1": 0.9 - 0.15 * 0.8**epoch if epoch % 2 == 0 else None,
            "mean_average_precision": 0.8 - 0.2 * 0.8**epoch if epoch % 2 == 0 else None,
            "learning_rate": 1e-3 * 0.5 ** (epoch // 4),
            "seconds": 5.2 + epoch / 10,
            "images_per_second": 9450.0,
        }
        for epoch in epochs
    ]
    return Report(
        title=f"Training run {HOSTILE}",
        run={
            "architecture": "mildnet-lite",
            "started_from": "mildnet-1",
            "seconds": 4000.5,
            "options": {"loss": "triplet hinge", "margin": 0.2, "epochs": 12, "seed": 12345, "file": HOSTILE},
            "data": {
                "train": {"triplets": 16450, "images": 3568, "in_class": 9000, "out_of_class": 7450},
                "validation": {"triplets": 1638, "images": 744},
            },
        },
        history=history,
        evaluations={
            "mildnet-2": evaluation(0.91, 0.97),
            "mildnet-1": evaluation(0.89, 0.93),
            "plain VGG16": evaluation(0.748, 0.91),
            f"colour histogram {HOSTILE}": evaluation(0.476, 0.80),
            "elsewhere": evaluation(0.5, 0.9, queries="b" * 64),
        },
        differences={
            "mildnet-1": {
                ("retrieval", "recall_at_1"): (0.02, -0.01, 0.05),
                ("triplets", "accuracy"): (0.04, 0.02, 0.06),
            }
        },
        best_epoch=9,
        triplets=triplets_of(folder, names),
        triplet_embeddings=embeddings_of(len(names), noise=1.2),
        retrieval=retrieval_set_of(folder, names),
        retrieval_embeddings=embeddings_of(len(names), noise=1.2),
        look_alike=look_alike_set_of(folder, names),
        look_alike_embeddings=embeddings_of(len(names), noise=1.2),
    )
