"""Pictures of the page on data: how long documents are, how large clusters of duplicates, how far shares drifted.

As in `charts`: inline SVG, x in percent and y in pixels, every value in a `<title>`, all text escaped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from markupsafe import Markup

from residency.data.mixture.mixing import LARGEST_DRIFT
from residency.eval.pages import charts

BINS = 8  # of a decade
HEIGHT = 132
TOP, BOTTOM = 10.0, 108.0
SIZES = (2, 3, 4, 5, 10, 20, 50, 100, 1000)  # of clusters: the least of each group


def bin_of(length: int) -> int:
    """Number of the logarithmic bin that holds a length; an empty document counts as one character."""
    return math.floor(BINS * math.log10(max(length, 1)) + 1e-9)


def edges(number: int) -> tuple[int, int]:
    """The shortest and the longest length in a bin."""
    first, last = (math.ceil(round(10 ** (place / BINS), 6)) for place in (number, number + 1))
    return first, max(first, last - 1)


def span_of(several: Iterable[Mapping[int, int]]) -> tuple[int, int]:
    """First and last bin over the lengths of several corpora, so that their pictures have one axis."""
    bins = [bin_of(length) for lengths in several for length in lengths]
    return (min(bins), max(bins)) if bins else (0, 0)


def histogram(lengths: Mapping[int, int], span: tuple[int, int], told: str) -> Markup:
    """Documents by their characters, in logarithmic bins from `span[0]` to `span[1]`.

    Args:
        lengths: characters to the number of such documents.
    """
    bins: Counter[int] = Counter()
    for length, documents in lengths.items():
        bins[bin_of(length)] += documents
    axis = charts.axis([0, max(bins.values(), default=1)], ticks=2)
    y, width = charts.Rise(axis, TOP, BOTTOM), 100 / (span[1] - span[0] + 1)
    pieces = [_grid(charts.tick_label(tick), y(tick)) for tick in axis.ticks]
    for number, documents in sorted(bins.items()):
        first, last = edges(number)
        title = f"{first:,} to {last:,} characters: {documents:,}"
        top = min(y(documents), BOTTOM - 1)
        bar = Markup(
            '<rect class="fill" x="{:.2f}%" width="{:.2f}%" y="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        )
        left = (number - span[0]) * width
        pieces.append(bar.format(left + 0.05 * width, 0.9 * width, top, BOTTOM - top, title))
    for number in range(span[0], span[1] + 2):
        if number % BINS == 0:
            pieces.append(_decade((number - span[0]) * width, charts.tick_label(10 ** (number // BINS))))
    return Markup('<svg class="chart plot" height="{}" role="img"><title>{}</title>{}</svg>').format(
        HEIGHT, told, Markup("").join(pieces)
    )


def sizes(clusters: Mapping[int, int]) -> list[tuple[str, int]]:
    """Clusters of duplicates by their documents: `2`, `5 to 9`, and their number."""
    groups: Counter[int] = Counter()
    for size, times in clusters.items():
        groups[max(least for least in SIZES if least <= size)] += times
    following = dict(zip(SIZES, (*SIZES[1:], None), strict=True))
    return [(_group(least, following[least]), groups[least]) for least in SIZES if groups[least]]


def drift(planned: float, realised: float, widest: float, told: str) -> Markup:
    """How far a share is from its plan, the allowed difference as a band; `widest` is the largest of all."""
    off = realised - planned
    reach = max(1.6 * LARGEST_DRIFT, 1.1 * widest)
    mark = "equivalent" if abs(off) <= LARGEST_DRIFT else "worse"
    axis = charts.Axis(-reach, reach, ())
    return charts.forest(axis, (off, off, off), mark=mark, margin=LARGEST_DRIFT, told=told)


def _group(least: int, following: int | None) -> str:
    if following is None:
        return f"{least:,} and more"
    return str(least) if following == least + 1 else f"{least} to {following - 1}"


def _grid(label: str, y: float) -> Markup:
    return Markup(
        '<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>'
        '<text class="tick" x="-7" y="{1:.1f}" text-anchor="end">{2}</text>'
    ).format(y, y + 4, label)


def _decade(x: float, label: str) -> Markup:
    return Markup(
        '<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="{1}" y2="{2}"/>'
        '<text class="tick" x="{0:.2f}%" y="{3}" text-anchor="middle">{4}</text>'
    ).format(x, BOTTOM, BOTTOM + 5, HEIGHT - 8, label)
