"""Evaluations of made-up vectors, whose figures can be worked out."""

import json
from pathlib import Path

import numpy as np
import pytest

from shop_similarity.intervals import GroupSums
from shop_similarity.training.evaluation.codes import code_recall
from shop_similarity.training.evaluation.comparison import Comparison
from shop_similarity.training.evaluation.results import (
    EvaluationError,
    as_stored,
    cosines,
    evaluate_look_alikes,
    evaluate_retrieval,
    evaluate_triplets,
)
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.evaluation.tables import tables
from shop_similarity.training.evaluation.validation import Validation
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.triplets.table import read_triplets
from shop_similarity.training.versions.embedding_files import UnreadablePhotos, embed_files, map_files
from tests.shop_similarity.drawn_photos import products
from tests.vectors import random_vectors


@pytest.fixture
def photos(tmp_path):
    """Thirty products, two photos of each: p0-0.jpg, p0-1.jpg, p1-0.jpg and so on."""
    for number, drawn in enumerate(products(30)):
        for view in (0, 1):
            (tmp_path / f"p{number}-{view}.jpg").write_bytes(drawn.photo(size=(24, 24), seed=view))
    return tmp_path


@pytest.fixture
def retrieval(photos):
    """Each first photo asks for the second one (exact); the next product's second photo is a partial hit."""
    folder = photos / "check"
    folder.mkdir()
    names = [f"p{number}-{view}" for number in range(30) for view in (0, 1)]
    lines = "".join(f"{name},{name}.jpg\n" for name in names)
    (folder / "gallery.csv").write_text("gallery_id,image\n" + lines)
    queries = "".join(f"p{n}-0,p{n}-0.jpg\n" for n in range(30))
    (folder / "queries.csv").write_text("query_id,image\n" + queries)
    qrels = "".join(f"p{n}-0,p{n}-1,2\np{n}-0,p{(n + 1) % 30}-1,1\n" for n in range(30))
    (folder / "qrels.csv").write_text("query_id,gallery_id,relevance\n" + qrels)
    return RetrievalSet.read(folder)


@pytest.fixture
def triplets(photos):
    """Positives are the other photo of the product; negatives are the next product, or the one after it."""
    lines = ["query,positive,negative,positive_type,negative_type"]
    for n in range(30):
        lines += [f"p{n}-0.jpg,p{n}-1.jpg,p{(n + 1) % 30}-0.jpg,instance_view,in_class"]
        lines += [f"p{n}-0.jpg,p{n}-1.jpg,p{(n + 2) % 30}-0.jpg,instance_view,out_of_class"]
    (photos / "triplets.csv").write_text("\n".join(lines))
    return read_triplets(photos / "triplets.csv")


def product_of(path):
    return int(path.name[1:].split("-")[0])


def by_product(paths, noise=0.1, seed=0):
    """Vectors that tell products apart: photos of a product lie together, products anywhere."""
    centres = random_vectors(30, seed=7)
    vectors = centres[[product_of(path) for path in paths]]
    return vectors + noise / 64 * np.random.default_rng(seed).standard_normal(vectors.shape).astype(np.float32)


def test_vectors_are_measured_as_the_database_keeps_them():
    stored = as_stored(np.array([[3.0, 4.0], [1e-9, 1.0]]))
    assert stored.dtype == np.float32
    assert stored.tolist() == np.array([[0.6, 0.8], [0, 1]], dtype=np.float16).astype(np.float32).tolist()
    assert cosines(stored, stored)[0, 0] == pytest.approx(1, abs=1e-6)
    for bad in (0.0, np.nan, np.inf):
        with pytest.raises(EvaluationError, match="1 of 2 embeddings"):
            as_stored(np.array([[bad, bad], [1, 1]]))


def test_photos_that_are_the_same_have_the_same_cosine():
    """To the last bit, wherever they stand: what is equal keeps the gallery's order under every BLAS."""
    vectors = as_stored(random_vectors(40, seed=3))
    gallery = vectors[np.arange(400) % 7]
    found = cosines(vectors, gallery)
    assert (found == found[:, np.arange(400) % 7]).all()
    assert (found[5:18] == cosines(vectors[5:18], gallery)).all()


def test_retrieval_of_a_perfect_model_and_of_one_that_finds_partial_hits_first(retrieval):
    vectors = by_product(retrieval.paths)
    result = evaluate_retrieval(vectors, retrieval, min_relevance=2).to_dict()
    assert result["queries"] == 30 and result["gallery"] == 60
    for metric in ("recall_at_1", "recall_at_5", "recall_at_10", "map_at_r", "mean_average_precision"):
        assert result[metric] == 1
        assert result["intervals"][metric] == [1, 1]
    # Every second photo takes the place of the product before.
    shifted = by_product([Path(f"p{(product_of(p) - int(p.stem[-1])) % 30}-x") for p in retrieval.paths])
    partial = evaluate_retrieval(shifted, retrieval)
    assert partial.to_dict()["recall_at_1"] == 1
    exact = evaluate_retrieval(shifted, retrieval, min_relevance=2)
    assert exact.to_dict()["recall_at_1"] == 0
    # nDCG: the partial hit first, the exact one anywhere.
    assert exact.to_dict()["ndcg_at_10"] == partial.to_dict()["ndcg_at_10"] < 0.8
    with pytest.raises(ValueError, match="same set"):
        exact.difference(partial)


def test_a_search_may_ask_with_another_vector_than_is_stored(retrieval):
    vectors = by_product(retrieval.paths)
    same, other = (
        evaluate_retrieval(vectors, retrieval, asked=asked) for asked in (lambda rows: 3 * rows, np.negative)
    )
    assert same.values["recall_at_1"].tolist() == evaluate_retrieval(vectors, retrieval).values["recall_at_1"].tolist()
    assert other.values["mean_average_precision"].mean() < same.values["mean_average_precision"].mean()


def test_queries_are_taken_in_parts(retrieval, monkeypatch):
    vectors = by_product(retrieval.paths, noise=12)
    at_once = evaluate_retrieval(vectors, retrieval).to_dict()
    codes = code_recall(vectors, vectors, np.eye(len(vectors), dtype=bool)).to_dict()
    for module in ("results", "codes"):
        monkeypatch.setattr(f"shop_similarity.training.evaluation.{module}.QUERIES_AT_ONCE", 7)
    assert evaluate_retrieval(vectors, retrieval).to_dict() == at_once
    assert at_once["recall_at_1"] < 1
    assert code_recall(vectors, vectors, np.eye(len(vectors), dtype=bool)).to_dict() == codes


@pytest.fixture
def look_alike(photos):
    """Five categories of six products, two of each colour; two photos of each product, all of which ask."""
    folder = photos / "looks"
    folder.mkdir()
    for kind, name in (("query", "queries"), ("gallery", "gallery")):
        rows = "".join(
            f"p{n}-{view},p{n}-{view}.jpg,p{n},c{n // 6},{['red', 'green', 'blue'][n % 3]}\n"
            for n in range(30)
            for view in (0, 1)
        )
        (folder / f"{name}.csv").write_text(f"{kind}_id,image,product_id,category,colour\n{rows}")
    return RetrievalSet.read(folder, look_alike=True)


def by_look(paths, colour, category):
    """Vectors in which colour and category count so much; nothing else does."""
    centres = random_vectors(8, seed=5)
    product = np.array([product_of(path) for path in paths])
    return (
        colour * centres[product % 3] + category * centres[3 + product // 6] + 1e-3 * random_vectors(30)[product]
    ) * 9


def test_look_alikes_ask_for_colour_within_the_category(look_alike):
    perfect = evaluate_look_alikes(by_look(look_alike.paths, 0.5, 1.0), look_alike).to_dict()
    assert perfect["queries"] == perfect["gallery"] == 60 and "exact_queries" not in perfect
    assert [perfect[name] for name in ("ndcg_at_10", "mean_average_precision", "recall_at_1")] == [1, 1, 1]
    # Two products of one category and colour find each other: fifteen pairs.
    assert perfect["groups"] == 15
    # What knows the product and nothing else: the other photo of it is neither hit nor miss.
    instance = evaluate_look_alikes(by_product(look_alike.paths), look_alike).to_dict()
    assert instance["recall_at_1"] < 0.3 and instance["ndcg_at_10"] < 0.5
    # What knows colour alone: all exact hits lie as near as the eight products of its colour of other categories.
    colours = evaluate_look_alikes(by_look(look_alike.paths, 1.0, 0.1), look_alike).to_dict()
    assert colours["recall_at_1"] == 1 and colours["mean_average_precision"] == 1
    # nDCG sees that the partial ones are missing: two exact ones first, of two exact and eight partial ones.
    gains = [3, 3, *[1] * 8]
    discounts = 1 / np.log2(np.arange(2, 12))
    assert colours["ndcg_at_10"] == pytest.approx(3 * discounts[:2].sum() / (gains @ discounts), abs=1e-4)


def test_queries_without_an_exact_hit_count_for_ndcg_alone(look_alike):
    for name in ("queries", "gallery"):
        path = look_alike.folder / f"{name}.csv"
        path.write_text(path.read_text().replace("p0,c0,red", "p0,c0,pink"))
    photos = RetrievalSet.read(look_alike.folder, look_alike=True)
    result = evaluate_look_alikes(by_look(photos.paths, 0.5, 1.0), photos)
    assert (result.queries, result.exact_queries) == (60, 56)
    assert np.isnan(result.values["mean_average_precision"]).sum() == 4
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert found["exact_queries"] == 56 and found["recall_at_1"] == found["ndcg_at_10"] == 1
    kept = found["by_group"]
    assert sum(kept["ndcg_at_10"]["counts"]) == 60 and sum(kept["recall_at_1"]["counts"]) == 56


def test_intervals_are_drawn_over_queries_that_share_their_hits(retrieval):
    # The fixture's partial hits make one ring of all queries; its exact ones are pairs of their own.
    vectors = by_product(retrieval.paths, noise=12)
    alone, ring = (evaluate_retrieval(vectors, retrieval, hits) for hits in (2, 1))
    assert len(np.unique(alone.groups)) == 30 and len(np.unique(ring.groups)) == 1
    ends = ring.estimate("mean_average_precision")
    assert ends.low == ends.high == pytest.approx(ends.value)
    assert ring.to_dict()["groups"] == 1
    comparison = Comparison(Validation(retrieval))
    comparison.add_model("one", comparison.validation.evaluate(vectors), 1.0)
    assert "intervals over 1 groups, too few to trust" in tables(comparison)


def test_what_is_kept_by_group_gives_the_same_difference(look_alike):
    good, poor = (evaluate_look_alikes(by_look(look_alike.paths, colour, 1.0), look_alike) for colour in (0.5, 0.0))
    kept = [json.loads(json.dumps(one.to_dict()))["by_group"]["mean_average_precision"] for one in (good, poor)]
    ours, theirs = (GroupSums(np.array(one["sums"]), np.array(one["counts"], dtype=float)) for one in kept)
    paired, expected = (ours - theirs).estimate(), good.difference(poor)["mean_average_precision"]
    assert (paired.value, *paired.interval) == pytest.approx((expected.value, *expected.interval), abs=1e-3)
    assert expected.low > 0


def test_look_alikes_lead(look_alike, retrieval, triplets):
    validation = Validation(retrieval, triplets, look_alike=look_alike)
    assert len(validation.paths) == 60
    names = {validation.sha256, Validation(retrieval, triplets).sha256, Validation(look_alike=look_alike).sha256}
    assert len(names) == 3
    comparison = Comparison(validation)
    comparison.add_model("new", validation.evaluate(by_product(validation.paths)), 1.0)
    comparison.add_model("old", validation.evaluate(by_product(validation.paths, noise=12)), 1.0, active=True)
    found = comparison.to_dict()["models"]["new"]
    assert list(found)[:4] == ["set", "look_alike", "retrieval", "triplets"]
    assert list(found["difference"]) == ["look_alike", "retrieval", "triplets"]
    shown = tables(comparison)
    assert shown.startswith(
        "Look-alikes: 60 queries (60 with exact hits: mAP, R@1), 60 photos, intervals over 15 groups"
    )
    assert shown.index("\n  look-alike ") < shown.index("\n  retrieval ") < shown.rindex("\n  triplets ")
    assert all(len(line) <= 120 for line in shown.splitlines())
    # Alone it is searched by codes as well.
    assert Validation(look_alike=look_alike).evaluate(by_product(look_alike.paths)).codes.gallery == 60


def test_no_exact_hit_is_explained(retrieval):
    (retrieval.folder / "qrels.csv").write_text("query_id,gallery_id,relevance\np0-0,p1-0,1\n")
    only_partial = RetrievalSet.read(retrieval.folder)
    vectors = by_product(only_partial.paths)
    assert evaluate_retrieval(vectors, only_partial).queries == 1
    with pytest.raises(EvaluationError, match="--min-relevance 1"):
        evaluate_retrieval(vectors, only_partial, min_relevance=2)


def test_triplets_overall_and_by_type(triplets):
    vectors = by_product(triplets.paths())
    assert evaluate_triplets(vectors, triplets).to_dict()["accuracy"] == 1
    # Every product looks exactly like the one after it, but for the last: in-class negatives are ties or nearer.
    same = by_product([Path(f"p{product_of(p) // 2 * 2}-x") for p in triplets.paths()], noise=0)
    result = evaluate_triplets(same, triplets).to_dict()
    assert result["triplets"] == 60 and result["groups"] == 30
    assert result["by_negative_type"]["in_class"]["accuracy"] == 0.5
    assert result["by_negative_type"]["out_of_class"]["accuracy"] == 1
    assert result["by_positive_type"]["instance_view"] == {
        "triplets": 60,
        "accuracy": 0.75,
        "interval": result["intervals"]["accuracy"],
    }
    assert result["validation_block"]["size"] == 60
    assert result["validation_block"]["draws"] == [0.75] * 5


def test_triplets_without_types_have_none(photos):
    (photos / "plain.csv").write_text("p0-0.jpg,p0-1.jpg,p1-0.jpg\n")
    triplets = read_triplets(photos / "plain.csv")
    result = evaluate_triplets(by_product(triplets.paths()), triplets).to_dict()
    assert result["by_positive_type"] == result["by_negative_type"] == {}
    assert result["groups"] == 1


def test_where_positives_link_everything_the_query_photos_are_drawn(photos):
    chain = "".join(f"p{n}-0.jpg,p{n + 1}-0.jpg,p{n + 1}-1.jpg\n" for n in range(25))
    (photos / "chain.csv").write_text(chain)
    triplets = read_triplets(photos / "chain.csv")
    assert len(np.unique(triplets.groups()[triplets.rows[:, 0]])) == 1
    result = evaluate_triplets(random_vectors(len(triplets.images)), triplets)
    assert len(np.unique(result.groups)) == 25
    assert result.estimate().low < result.estimate().value < result.estimate().high


def coded_recall_by_hand(queries, gallery, k, candidates):
    """One query at a time, with bits."""
    queries, gallery = queries.astype(np.float16).astype(float), gallery.astype(np.float16).astype(float)
    shares = []
    for query in queries:
        similarity = gallery @ query / np.linalg.norm(gallery, axis=1) / np.linalg.norm(query)
        exact = set(np.argsort(-similarity)[:k])
        distance = np.array([np.sum((query > 0) != (row > 0)) for row in gallery])
        near = np.argsort(distance, kind="stable")[:candidates]
        coded = near[np.argsort(-similarity[near])][:k]
        shares.append(len(exact & set(coded)) / k)
    return np.mean(shares)


def test_code_recall_agrees_with_codes_compared_bit_by_bit():
    vectors = random_vectors(140, clusters=12, seed=3)
    result = code_recall(vectors[:20], vectors[20:], candidates=(10, 15, 40, 120))
    for candidates, recall in result.recall.items():
        assert recall == pytest.approx(coded_recall_by_hand(vectors[:20], vectors[20:], 10, candidates))
    assert result.recall[10] < result.recall[40] <= result.recall[120] == 1
    assert result.to_dict()["recall"]["120"] == 1


def test_code_recall_leaves_the_query_out_and_counts_ties_as_found():
    vectors = np.repeat(random_vectors(4, seed=1), 15, axis=0)
    itself = np.eye(60, dtype=bool)
    # Fourteen others are exactly as near; any ten of them are right.
    assert code_recall(vectors, vectors, itself, candidates=(10,)).recall == {10: 1}
    # Vectors without a negative number all have the same code: the first candidates are any ones.
    blind = np.abs(random_vectors(60, clusters=6, seed=2))
    assert code_recall(blind, blind, itself, candidates=(10,)).recall[10] < 0.5
    with pytest.raises(EvaluationError, match="two photos or more"):
        code_recall(vectors[:2], vectors[:2], np.eye(2, dtype=bool))


def test_a_photo_of_both_sets_is_embedded_once(retrieval, triplets):
    validation = Validation(retrieval, triplets)
    assert len(validation.paths) == 60
    vectors = by_product(validation.paths)
    both = validation.evaluate(vectors)
    alone = Validation(retrieval).evaluate(by_product(retrieval.paths))
    assert both.retrieval.to_dict() == alone.retrieval.to_dict()
    assert both.triplets.to_dict()["accuracy"] == 1
    assert both.codes.queries == both.codes.gallery == 60
    assert set(alone.to_dict()) == {"set", "retrieval", "codes"}
    assert set(Validation(triplets=triplets).evaluate(by_product(triplets.paths()), None).to_dict()) == {
        "set",
        "triplets",
    }
    json.dumps(both.to_dict(), allow_nan=False)


def test_the_name_of_a_validation_says_what_may_be_compared(retrieval, triplets):
    names = {
        Validation(retrieval).sha256,
        Validation(retrieval, min_relevance=2).sha256,
        Validation(triplets=triplets).sha256,
        Validation(retrieval, triplets).sha256,
    }
    assert len(names) == 4
    assert Validation(RetrievalSet.read(retrieval.folder)).sha256 in names
    with pytest.raises(EvaluationError, match="nothing to evaluate on"):
        Validation()
    with pytest.raises(EvaluationError, match="1 or 2"):
        Validation(retrieval, min_relevance=0)


def test_a_comparison_is_paired_with_the_active_version_and_shown(retrieval, triplets):
    validation = Validation(retrieval, triplets)
    good = validation.evaluate(by_product(validation.paths))
    poor = validation.evaluate(by_product(validation.paths, noise=12))
    comparison = Comparison(validation)
    comparison.add_model("new", good, 1.0)
    comparison.add_model("old", poor, 2.0, active=True)
    comparison.add_baseline("colour", "colour histogram (Lab)", poor, 3.0)
    assert comparison.reference == "old"
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert found["photos"] == 60
    difference = found["models"]["new"]["difference"]["retrieval"]["mean_average_precision"]
    ours, theirs = (one.to_dict()["retrieval"]["mean_average_precision"] for one in (good, poor))
    assert difference["value"] == pytest.approx(ours - theirs, abs=2e-4) and difference["interval"][0] > 0
    assert "difference" not in found["models"]["old"]
    shown = tables(comparison)
    assert "Difference to old" in shown and "triplet" in shown and "by negative" in shown
    assert all(len(line) <= 120 for line in shown.splitlines())


def test_without_a_model_there_is_no_difference(retrieval):
    validation = Validation(retrieval)
    comparison = Comparison(validation)
    comparison.add_baseline("colour", "colour", validation.evaluate(by_product(validation.paths), None), 1.0)
    assert comparison.to_dict()["reference"] is None
    assert "Difference" not in tables(comparison) and "codes" not in tables(comparison)


@pytest.fixture(scope="module")
def mean_colour():
    import keras

    photos = keras.Input((16, 16, 3))
    return keras.Model(photos, keras.layers.GlobalAveragePooling2D()(photos))


def test_files_are_embedded_in_their_order(photos, mean_colour):
    paths = sorted(photos.glob("*.jpg"))[:19]
    seen = []
    found = embed_files(mean_colour, paths[::-1], Preprocessing(size=16), 8, seen.append)
    assert found.shape == (19, 3) and found.dtype == np.float32
    assert seen == [8, 16, 19]
    alone = np.concatenate([embed_files(mean_colour, [path], Preprocessing(size=16)) for path in paths[::-1]])
    assert np.allclose(found, alone, atol=1e-3)
    assert embed_files(mean_colour, [], Preprocessing(size=16)).shape == (0, 3)


def test_every_photo_that_cannot_be_read_is_told_at_once(photos, mean_colour):
    paths = sorted(photos.glob("*.jpg"))
    paths[2].write_bytes(b"no photo")
    paths[40].write_bytes(paths[41].read_bytes()[:300])
    paths[50].unlink()
    with pytest.raises(UnreadablePhotos, match="3 of 60 photos cannot be read") as caught:
        embed_files(mean_colour, paths, Preprocessing(size=16))
    assert set(caught.value.reasons) == {paths[2], paths[40], paths[50]}
    assert paths[40].name in str(caught.value)
    # A fault of the function's own is no unreadable photo.
    with pytest.raises(ZeroDivisionError):
        list(map_files(lambda photo: 1 / 0, paths[:1]))
