"""The report as one HTML file that needs nothing but itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.template import Context, Engine
from django.utils.safestring import SafeString, mark_safe

from shop_similarity.training.files import write_atomically
from shop_similarity.training.report.contents import Report
from shop_similarity.training.report.metric_figures import METRICS, figure, measured
from shop_similarity.training.report.plots import Plot, histogram, interval_plot, line_plot
from shop_similarity.training.report.samples import random_triplet_rows, ranking_rows, triplet_distances, triplet_rows
from shop_similarity.training.report.summary import duration, summary

_FOLDER = Path(__file__).parent
_BEST, _WORST, _RANDOM, _QUERIES = 6, 18, 5, 12
_HISTORY = {
    "epoch": "Epoch",
    "loss": "Loss",
    "val_loss": "Validation loss",
    "accuracy": "Accuracy",
    "val_accuracy": "Validation accuracy",
    "look_alike_ndcg_at_10": "Look-alike nDCG@10",
    "look_alike_map": "Look-alike mAP",
    "recall_at_1": "Recall@1",
    "mean_average_precision": "mAP",
    "learning_rate": "Learning rate",
    "seconds": "Seconds",
    "images_per_second": "Images per second",
}


@dataclass(frozen=True)
class Table:
    """A table with a caption.

    Attributes:
        caption: what it shows.
        head: the headings of the columns.
        rows: texts; the first cell of each heads its row.
        numeric: whether the other cells hold figures.
    """

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: bool = True


class Sections:
    """The parts of a page, in order; one without anything to show is left out."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def add(self, heading: str, intro: str = "", narrow: bool = False, **parts: Any) -> None:
        """Add a part.

        Args:
            heading: over it.
            intro: a sentence below the heading.
            narrow: rows stand beside each other where there is room.
            parts: any of ``plots`` (:func:`shown_plots`), ``tables`` (:class:`Table`), ``folded`` (a table shown
                on demand) and ``rows`` (:class:`shop_similarity.training.report.samples.Row`).
        """
        if any(parts.values()):
            section = {"id": f"section-{len(self.all) + 1}", "heading": heading, "intro": intro, "narrow": narrow}
            self.all.append(section | parts)


def write_page(path: Path, title: str, sentences: Sequence[tuple[str, Sequence[str]]], sections: Sections) -> Path:
    """Write a self-contained HTML file; a reader of ``path`` sees the old page or the new one, never half of one.

    Args:
        path: where to; its folder is made if it is missing.
        title: the heading.
        sentences: at the top, each with the items that it announces.
        sections: the parts.

    Raises:
        OSError: the file can't be written.
    """
    path = Path(path)
    engine = Engine(dirs=[str(_FOLDER)], autoescape=True)
    style = mark_safe((_FOLDER / "style.css").read_text(encoding="utf-8"))  # noqa: S308, our own file  # nosec B308 B703
    context = {"title": title, "style": style, "summary": sentences, "sections": sections.all}
    # What comes from a file system may hold half a character.
    page = engine.get_template("page.html").render(Context(context)).encode("utf-8", "backslashreplace")
    write_atomically(path, page)
    return path


def write_report(path: Path, report: Report) -> Path:
    """Write the report on a training run as one self-contained HTML file, a few MiB at most.

    Args:
        path: where to; its folder is made if it is missing.
        report: what is known of the run.

    Returns:
        The path.

    Raises:
        OSError: the file can't be written.
    """
    return write_page(path, report.title, summary(report), _sections(report))


def _sections(report: Report) -> Sections:
    sections = Sections()
    section = sections.add
    section(
        "Comparison",
        "Figures with their 95 % intervals, drawn over groups of queries that share their hits. Models can be compared "
        "where they were measured on the same set. Look-alikes (other products of the same category and colour) lead.",
        plots=_comparison_plots(report.evaluations),
        tables=_comparison_tables(report.evaluations),
    )
    section(
        "Test set",
        "What no choice was made by, neither of weights nor of the best epoch: measured once, at the end.",
        plots=_comparison_plots(report.test_evaluations),
        tables=_comparison_tables(report.test_evaluations),
    )
    section("Curves", plots=_history_plots(report), folded=_history_table(report))
    if report.triplets is not None and report.triplet_embeddings is not None and len(report.triplets):
        arguments = report.triplets, report.triplet_embeddings
        section(
            "Distances of the validation triplets",
            "Euclidean distance between embeddings of length 1: 0 for equal ones, 2 for opposite ones.",
            plots=_distance_plots(*arguments),
        )
        section(
            "Worst triplets",
            "The smallest margins, the distance to the negative less that to the positive, one of each query. Look "
            "at these first: wrong labels stand out here, too.",
            rows=triplet_rows(*arguments, _WORST, worst=True),
            narrow=True,
        )
        section(
            "Random triplets",
            "Drawn at random: the best and the worst say little about most of them.",
            rows=random_triplet_rows(*arguments, _RANDOM),
            narrow=True,
        )
        section("Best triplets", "The largest margins.", rows=triplet_rows(*arguments, _BEST, worst=False), narrow=True)
    if report.look_alike is not None and report.look_alike_embeddings is not None:
        section(
            "Sample queries with their first look-alikes",
            "A third of them have the best average precision, a third are middling, a third are the worst. Other "
            "products of the same category are framed, as hits where the colour is the same too; photos of the query's "
            "own product are left out.",
            rows=ranking_rows(report.look_alike, report.look_alike_embeddings, _QUERIES),
        )
    if report.retrieval is not None and report.retrieval_embeddings is not None:
        section(
            "Sample queries with their first results",
            "A third of them have the best average precision, a third are middling, a third are the worst. Hits are "
            "framed and named; the query itself is left out.",
            rows=ranking_rows(report.retrieval, report.retrieval_embeddings, _QUERIES),
        )
    section("Options and data", tables=list(_run_tables(report.run)))
    return sections


def shown_plots(plots: Iterable[Plot | None]) -> list[dict[str, str | SafeString]]:
    """Plots for a page, without those that had nothing to show."""
    return [
        # The plots' module escapes every text that it writes.
        {"title": plot.title, "description": plot.description, "svg": mark_safe(plot.svg)}  # noqa: S308  # nosec B308 B703
        for plot in plots
        if plot is not None
    ]


def _comparison_plots(evaluations: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str | SafeString]]:
    plots = []
    if len(evaluations) > 1:
        for metric in measured(evaluations):
            figures = {name: figure(evaluation, metric) for name, evaluation in evaluations.items()}
            own = next(iter(figures.values()))
            rows = {
                name: (known.value, known.low, known.high)
                for name, known in figures.items()
                if known and own and known.of == own.of
            }
            shown = ("recall_at_1", "mean_average_precision", "map_at_r", "accuracy")
            if len(rows) > 1 and (metric[1] in shown or metric[0] == "look_alike"):
                plots.append(interval_plot(METRICS[metric], rows, f"{METRICS[metric]}, 95 % interval"))
    return shown_plots(plots)


def _comparison_tables(evaluations: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    tables = []
    for part, caption in (("look_alike", "Look-alikes"), ("retrieval", "Retrieval"), ("triplets", "Triplets")):
        metrics = [metric for metric in measured(evaluations) if metric[0] == part]
        known = {name: evaluation[part] for name, evaluation in evaluations.items() if evaluation.get(part)}
        if metrics and known:
            rows = [(name, *(str(figure(evaluations[name], metric) or "") for metric in metrics)) for name in known]
            head = ("Model", *(METRICS[metric] for metric in metrics))
            tables.append(_with_basis(f"{caption}: value and 95 % interval", head, rows, known, _measured_on))
    tables += _by_type(evaluations)
    recalls = {name: evaluation["codes"] for name, evaluation in evaluations.items() if evaluation.get("codes")}
    if recalls:
        counts = sorted({int(count) for codes in recalls.values() for count in codes.get("recall", {})})
        rows = [(name, *(_code_cell(codes, str(count)) for count in counts)) for name, codes in recalls.items()]
        k = next(iter(recalls.values())).get("k", 10)
        caption = f"Coded search: share of the exact first {k} that it finds, by the number of candidates"
        head = ("Model", *(f"{count} candidates" for count in counts))
        tables.append(_with_basis(caption, head, rows, recalls, _searched))
    return tables


def _code_cell(codes: Mapping[str, Any], count: str) -> str:
    value, interval = codes.get("recall", {}).get(count), codes.get("intervals", {}).get(count)
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _with_basis(
    caption: str,
    head: tuple[str, ...],
    rows: list[tuple[str, ...]],
    parts: Mapping[str, Mapping[str, Any]],
    basis: Callable[[Mapping[str, Any]], str],
) -> Table:
    """Say once, in the caption, what all rows were measured on, or in each row where that differs."""
    texts = [basis(part) for part in parts.values()]
    if len({(text, part.get("set")) for text, part in zip(texts, parts.values(), strict=True)}) == 1:
        return Table(f"{caption} ({texts[0]})", head, rows)
    sets = [f"{text}, set {str(part.get('set', ''))[:8]}" for text, part in zip(texts, parts.values(), strict=True)]
    return Table(caption, (*head, "Measured on"), [(*row, text) for row, text in zip(rows, sets, strict=True)])


def _searched(codes: Mapping[str, Any]) -> str:
    return f"{codes.get('queries', 0):,} searches in {codes.get('gallery', 0):,} photos"


def _measured_on(part: Mapping[str, Any]) -> str:
    if "queries" in part:
        hits = {1: ", partial hits count", 2: ", exact hits only"}.get(part.get("min_relevance", 0), "")
        if "exact_queries" in part:
            hits = f", {part['exact_queries']:,} with exact hits"
        return f"{part['queries']:,} queries in {part.get('gallery', 0):,} photos{hits}{_groups(part)}"
    return f"{part.get('triplets', 0):,} triplets{_groups(part)}"


def _groups(part: Mapping[str, Any]) -> str:
    return f", {part['groups']:,} groups" if "groups" in part else ""


def _by_type(evaluations: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    tables = []
    for key, word in (("by_positive_type", "positive"), ("by_negative_type", "negative")):
        figures = {name: (values.get("triplets") or {}).get(key) or {} for name, values in evaluations.items()}
        kinds = sorted({kind for by_kind in figures.values() for kind in by_kind})
        if not kinds:
            continue
        rows = []
        for name, by_kind in figures.items():
            cells = []
            for kind in kinds:
                values = by_kind.get(kind)
                low, high = (values or {}).get("interval") or (None, None)
                interval = f" ({low:.3f} to {high:.3f})" if low is not None else ""
                cells.append(f"{values['accuracy']:.3f}{interval}" if values else "")
            rows.append((name, *cells))
        tables.append(Table(f"Triplet accuracy by kind of {word}", ("Model", *kinds), rows))
    return tables


def _history_plots(report: Report) -> list[dict[str, str | SafeString]]:
    epochs = [row.get("epoch", place) for place, row in enumerate(report.history, start=1)]

    def column(key: str) -> list[float | None]:
        return [row.get(key) for row in report.history]

    curves = (
        ("Loss", {"train": column("loss"), "validation": column("val_loss")}, "loss"),
        ("Accuracy", {"train": column("accuracy"), "validation": column("val_accuracy")}, "in the right order"),
        ("Look-alikes", {"nDCG@10": column("look_alike_ndcg_at_10"), "mAP": column("look_alike_map")}, ""),
        ("Retrieval", {"Recall@1": column("recall_at_1"), "mAP": column("mean_average_precision")}, ""),
        ("Learning rate", {"learning rate": column("learning_rate")}, "learning rate"),
    )
    return shown_plots(
        line_plot(title, epochs, series, "epoch", label, report.best_epoch) for title, series, label in curves
    )


def _history_table(report: Report) -> Table | None:
    keys = [key for key in _HISTORY if any(row.get(key) is not None for row in report.history)]
    if not keys:
        return None
    rows = [tuple(_number(row.get(key)) for key in keys) for row in report.history]
    return Table("Every epoch in figures", tuple(_HISTORY[key] for key in keys), rows)


def _distance_plots(triplets: Any, embeddings: Any) -> list[dict[str, str | SafeString]]:
    positive, negative = triplet_distances(embeddings, triplets.rows)
    plots = [
        histogram(
            "Distances",
            {"D(query, positive)": positive, "D(query, negative)": negative},
            "Euclidean distance",
            "triplets",
        ),
        histogram("Margins", {"margin": negative - positive}, "D(query, negative) - D(query, positive)", "triplets"),
    ]
    return shown_plots(plots)


def _run_tables(run: Mapping[str, Any]) -> Iterable[Table]:
    single = {name: value for name, value in run.items() if not isinstance(value, Mapping)}
    if single:
        yield _settings("Run", single)
    for name, value in run.items():
        if isinstance(value, Mapping) and value:
            yield _settings(str(name).replace("_", " ").capitalize(), value)


def _settings(caption: str, values: Mapping[str, Any]) -> Table:
    rows = [(name, _text(name, value)) for name, value in _flat(values)]
    return Table(caption, ("Name", "Value"), rows, numeric=False)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name.rpartition(".")[2] == "seconds" and isinstance(value, int | float):
        return duration(value)
    if isinstance(value, int) and not isinstance(value, bool) and "seed" not in name:
        return f"{value:,}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
