"""Plots as inline SVG that follow the page's colours, light or dark."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Colours that stand for the page's: matplotlib writes them into the SVG, where they are replaced by CSS variables.
_INK, _GRID = "#010101", "#020202"
_SERIES = ("#0a0001", "#0a0002", "#0a0003", "#0a0004")
_VARIABLES = {_INK: "--ink", _GRID: "--line"} | {
    colour: f"--series-{place}" for place, colour in enumerate(_SERIES, start=1)
}
# Lines and bars differ in more than colour.
_DASHES = ("-", "--", "-.", ":")
_HATCHES = ("", "///", "...", "xxx")
_MARKERS = ("o", "s", "^", "D")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    # What stands in a text is shown as it stands: $ and _ of a file or version name are no formula.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        title: what it shows.
        description: the same in words and figures, for those who can't see it.
        svg: the markup of one ``<svg>`` element, safe to write into HTML.
    """

    title: str
    description: str
    svg: str


def line_plot(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    x_label: str,
    y_label: str,
    best: float | None = None,
) -> Plot | None:
    """Curves over the same points.

    Args:
        x: where the values stand.
        series: by name; points that are None or NaN are left out.
        best: where to draw a vertical line that is labelled "best".

    Returns:
        None if no series has a value.
    """
    drawn = {name: np.array([math.nan if v is None else v for v in values], float) for name, values in series.items()}
    drawn = {name: values for name, values in drawn.items() if np.isfinite(values).any()}
    if not drawn:
        return None
    with mpl.rc_context(_SETTINGS):
        figure, axes = _axes(x_label, y_label)
        for place, (name, values) in enumerate(drawn.items()):
            style = place % len(_SERIES)
            known = np.isfinite(values)
            axes.plot(
                np.asarray(x)[known],
                values[known],
                color=_SERIES[style],
                linestyle=_DASHES[style],
                marker=_MARKERS[style] if len(x) <= 40 else "",
                markersize=4,
                linewidth=1.8,
                label=name,
            )
        if best is not None:
            axes.axvline(best, color=_INK, linewidth=0.8, linestyle=":", label="best epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        if len(drawn) > 1 or best is not None:
            _legend_above(axes)
        words = [_ends(name, x, values, x_label) for name, values in drawn.items()]
        return Plot(title, " ".join(words), _svg(figure, title))


def histogram(title: str, series: Mapping[str, np.ndarray], x_label: str, y_label: str, bins: int = 40) -> Plot:
    """How values are spread, several kinds over each other.

    Args:
        series: by name, ``(n,)`` finite values each.
    """
    everything = np.concatenate(list(series.values()))
    low, high = everything.min(), everything.max()
    whole = np.issubdtype(everything.dtype, np.integer)
    # Whole numbers stand in the middle of bars of their own, where there are few enough.
    few = whole and high - low < bins
    edges = np.arange(low, high + 2) - 0.5 if few else np.linspace(low, high + 1e-9, bins + 1)
    with mpl.rc_context(_SETTINGS):
        figure, axes = _axes(x_label, y_label)
        for place, (name, values) in enumerate(series.items()):
            style = place % len(_SERIES)
            counts, _ = np.histogram(values, edges)
            colour = _SERIES[style]
            axes.stairs(
                counts,
                edges,
                fill=True,
                facecolor=colour,
                edgecolor=colour,
                alpha=0.35,
                hatch=_HATCHES[style],
                label=name,
            )
            axes.stairs(counts, edges, color=colour, linewidth=1.4)
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(series) > 1:
            _legend_above(axes)
        words = [
            f"{name}: {len(values):,} values, median {np.median(values):.3f}, "
            f"nine in ten between {np.quantile(values, 0.05):.3f} and {np.quantile(values, 0.95):.3f}."
            for name, values in series.items()
        ]
        return Plot(title, " ".join(words), _svg(figure, title))


def interval_plot(title: str, rows: Mapping[str, tuple[float, float, float]], x_label: str) -> Plot:
    """Estimates with their intervals, one below the other.

    Args:
        rows: by name, the estimate and the lower and upper end of its interval.
    """
    with mpl.rc_context(_SETTINGS):
        figure, axes = _axes(x_label, "", height=0.9 + 0.36 * len(rows))
        names = list(rows)
        for place, name in enumerate(names):
            value, low, high = rows[name]
            axes.errorbar(
                value,
                place,
                xerr=[[max(0, value - low)], [max(0, high - value)]],
                color=_SERIES[0 if place == 0 else 1],
                marker=_MARKERS[0 if place == 0 else 1],
                markersize=6,
                linewidth=1.6,
                capsize=4,
            )
        axes.set_yticks(range(len(names)), [_shortened(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        words = [f"{name}: {value:.3f}, {low:.3f} to {high:.3f}." for name, (value, low, high) in rows.items()]
        return Plot(title, " ".join(words), _svg(figure, title))


def _axes(x_label: str, y_label: str, height: float = 3.1):
    figure = Figure(figsize=(6.4, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_axisbelow(True)
    return figure, axes


def _legend_above(axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, handlelength=2.4)


def _shortened(name: str) -> str:
    return name if len(name) <= 34 else name[:33] + "…"


def _ends(name: str, x: Sequence[float], values: np.ndarray, x_label: str) -> str:
    finite = np.flatnonzero(np.isfinite(values))
    first, last = finite[0], finite[-1]
    low, high = finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]
    return (
        f"{name}: {values[first]:.4g} at {x_label} {x[first]:g}, {values[last]:.4g} at {x[last]:g}; "
        f"lowest {values[low]:.4g} at {x[low]:g}, highest {values[high]:.4g} at {x[high]:g}."
    )


def _svg(figure: Figure, title: str) -> str:
    """The figure as one element whose ids and colours get along with the rest of a page."""
    stream = io.StringIO()
    # The title makes ids that are the same in every run, and different between the plots of a page.
    with mpl.rc_context({"svg.hashsalt": title}), warnings.catch_warnings():
        # The browser draws the text, with fonts of its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    markup = stream.getvalue()
    markup = markup[markup.index("<svg") :]
    markup = re.sub(r"<metadata>.*?</metadata>", "", markup, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", title.lower()) + "-"
    used = set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", markup))
    markup = re.sub(r' id="([^"]+)"', lambda match: f' id="{prefix}{match[1]}"' if match[1] in used else "", markup)
    markup = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", markup)
    for colour, variable in _VARIABLES.items():
        markup = markup.replace(colour, f"var({variable})")
    # Fonts and the colour of texts come from the page's style sheet.
    markup = re.sub(r" font-family: [^;\"]*;", "", markup)
    head = f'<svg role="img" aria-label="{escape(title, quote=True)}"'
    return re.sub(r' (width|height)="[\d.]+pt"', "", markup.replace("<svg", head, 1), count=2)
