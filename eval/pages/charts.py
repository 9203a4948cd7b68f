"""Small charts as inline SVG, drawn without a library.

Why by hand: the report is one file that opens offline, follows light and dark, and prints. How: x is always
in percent of the width and y in pixels, so that a chart fits any column while text and strokes keep their
size; colours are classes of `report.css`; every value stands in a `<title>`, the browser's own tooltip. All
text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

SHAPES = {  # also told apart without colour
    "better": "M0 -5.2 L5 3.6 L-5 3.6 Z",
    "worse": "M0 5.2 L5 -3.6 L-5 -3.6 Z",
    "equivalent": "M-3.8 -3.8 H3.8 V3.8 H-3.8 Z",
    "undecided": "M0 -4.4 A4.4 4.4 0 1 0 0.01 -4.4 Z",
}


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high` with ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Share of the way along the axis, kept inside it."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass(frozen=True)
class Rise:
    """Places values on a vertical axis: pixels from the top."""

    axis: Axis
    top: float
    bottom: float

    def __call__(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * self.axis.at(value)


def axis(values: Sequence[float], *, ticks: int = 4, around: Sequence[float] = ()) -> Axis:
    """A round axis that holds all values (and those of `around`), cut into about `ticks` intervals."""
    known = [*values, *around] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(round(index * step, 10) for index in range(first, last + 1)))


def tick_label(value: float) -> str:
    """The shortest plain form, with a true minus."""
    return f"{value:g}".replace("-", "\u2212") if abs(value) < 10_000 else f"{value / 1000:g}k"


def forest(span: Axis, effect: tuple[float, float, float], *, mark: str, margin: float, told: str) -> Markup:
    """One row of a forest plot: interval, point in the verdict's shape, zero, and the margin as a band."""
    point, low, high = (percent(span.at(value)) for value in effect)
    left, right = span.at(-margin), span.at(margin)
    return svg(
        "100%",
        told,
        Markup('<rect class="band" x="{}" width="{}" y="0" height="100%"/>').format(
            percent(left), percent(right - left)
        ),
        Markup('<line class="zero" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(percent(span.at(0))),
        Markup('<line class="whisker {}" x1="{}" x2="{}" y1="50%" y2="50%"/>').format(mark, low, high),
        Markup('<svg x="{}" y="50%" overflow="visible"><path class="point {}" d="{}"/></svg>').format(
            point, mark, SHAPES.get(mark, SHAPES["undecided"])
        ),
    )


def forest_axis(span: Axis) -> Markup:
    """Tick labels for a column of forest rows."""
    labels = [text("tick", percent(span.at(tick)), 12, tick_label(tick), "middle") for tick in span.ticks]
    return svg(16, "", *labels)


def scores(
    stages: Sequence[str],
    series: Sequence[Sequence[tuple[float, float, float] | None]],
    span: Axis,
    *,
    chance: float | None,
    floors: Sequence[float] = (),
    show: Callable[[float], str],
    told: str,
) -> Markup:
    """Points with whiskers over stages in order; a second series is drawn hollow and dashed.

    Args:
        stages: names, left to right.
        series: per run one (value, low, high) or None for each stage.
        floors: what is reached without reading the question; ticks at the right edge.
    """
    height = 160
    y = Rise(span, top=22, bottom=138)
    parts = [grid(span, y)]
    if chance is not None and span.low <= chance <= span.high:
        parts.append(
            Markup('<line class="chance" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(px(y(chance)))
        )
    parts += [
        Markup('<line class="floor" x1="97%" x2="100%" y1="{0}" y2="{0}"/>').format(px(y(floor)))
        for floor in floors
    ]
    fits = max(4, round(46 / len(stages)))
    places = [(index + 0.5) / len(stages) for index in range(len(stages))]
    for place, name in zip(places, stages, strict=True):
        short = name if len(name) <= fits else f"{name[: fits - 1]}\u2026"
        parts.append(text("tick", percent(place), height - 4, short, "middle"))
    for number, points in reversed(list(enumerate(series))):
        parts.append(_points(places, points, y, second=number > 0, lone=len(series) == 1, show=show))
    return svg(height, told, *parts, style="plot")


def _points(
    places: Sequence[float],
    points: Sequence[tuple[float, float, float] | None],
    y: Rise,
    *,
    second: bool,
    lone: bool,
    show: Callable[[float], str],
) -> Markup:
    known = [(place, point) for place, point in zip(places, points, strict=True) if point]
    style = "second" if second else "first"
    parts = [
        Markup('<line class="path {}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            style, percent(a), px(y(one[0])), percent(b), px(y(two[0]))
        )
        for (a, one), (b, two) in pairwise(known)
    ]
    for place, (value, low, high) in known:
        label = y(low) + 13 if second else y(high) - 6
        parts.append(line(f"whisker {style}", percent(place), y(high), y(low)))
        parts.append(
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"><title>{} [{}, {}]</title></circle>').format(
                style, percent(place), px(y(value)), show(value), show(low), show(high)
            )
        )
        if lone or place == known[-1][0]:
            parts.append(text(f"value {style}", percent(place), label, show(value), "middle"))
    return Markup("").join(parts)


def loss_curve(
    steps: Sequence[tuple[int, float]],
    total: int,
    *,
    checkpoints: Sequence[int],
    left_out: Sequence[int],
    level: tuple[float, str] | None,
    told: str,
) -> Markup:
    """Training loss over optimizer steps; small ticks are checkpoints, upright dashed lines the batches left out,
    `level` is a named dashed line."""
    height = 172
    losses = [loss for _, loss in steps]
    span = axis(losses, ticks=3, around=[level[0]] if level else [])
    y = Rise(span, top=14, bottom=150)
    parts = [grid(span, y)]
    if level:
        parts.append(
            Markup('<line class="chance" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(px(y(level[0])))
        )
        parts.append(text("tick", "100%", y(level[0]) - 5, level[1], "end"))
    parts += [line("checkpoint", percent(step / total), y.bottom - 5, y.bottom) for step in checkpoints]
    parts += [line("left-out", percent(step / total), y.top, y.bottom) for step in left_out]
    path = " ".join(f"{1000 * step / total:.1f},{y(loss):.1f}" for step, loss in thinned(steps, 320))
    parts.append(
        Markup(
            '<svg width="100%" height="{0}" viewBox="0 0 1000 {0}" preserveAspectRatio="none">'
            '<polyline class="curve" points="{1}"/></svg>'
        ).format(height, path)
    )
    parts.append(text("tick", "0", height - 6, "step 0", "start"))
    parts.append(text("tick", "100%", height - 6, f"{total:,}", "end"))
    return svg(height, told, *parts, style="plot")


def lines(series: Mapping[str, Sequence[tuple[int, float]]], total: int, told: str) -> Markup:
    """Several values over optimizer steps on one axis; from the second on they are told apart by dashes too."""
    height = 172
    span = axis([value for points in series.values() for _, value in points], ticks=3)
    y = Rise(span, top=14, bottom=150)
    parts = [grid(span, y)]
    for place, (name, points) in enumerate(series.items()):
        drawn = " ".join(
            f"{1000 * step / max(total, 1):.1f},{y(value):.1f}" for step, value in thinned(points, 160)
        )
        parts.append(
            Markup(
                '<svg width="100%" height="{0}" viewBox="0 0 1000 {0}" preserveAspectRatio="none">'
                '<polyline class="curve {1}" points="{2}"><title>{3}</title></polyline></svg>'
            ).format(height, "other" if place else "", drawn, name)
        )
    parts.append(text("tick", "0", height - 6, "step 0", "start"))
    parts.append(text("tick", "100%", height - 6, f"{total:,}", "end"))
    return svg(height, told, *parts, style="plot")


def thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most so many points: each the mean of its neighbours, so that no spike is lost without trace."""
    width = math.ceil(len(points) / most) or 1
    parts = [points[index : index + width] for index in range(0, len(points), width)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def share_bar(planned: float | None, realised: float | None, told: str) -> Markup:
    """A bar for what was realised, with a tick where the plan was."""
    parts = [Markup('<rect class="track" width="100%" height="10" y="3" rx="2"/>')]
    if realised is not None:
        parts.append(
            Markup('<rect class="fill" width="{}" height="10" y="3" rx="2"/>').format(percent(realised))
        )
    if planned is not None:
        parts.append(line("plan", percent(planned), 0, 16))
    return svg(16, told, *parts)


def grid(span: Axis, y: Rise) -> Markup:
    """Lines at the ticks of a vertical axis, with their labels left of the picture."""
    lines = [
        Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(px(y(tick)))
        for tick in span.ticks
    ]
    labels = [text("tick", "-7", y(tick) + 4, tick_label(tick), "end") for tick in span.ticks]
    return Markup("").join([*lines, *labels])


def svg(height: int | str, told: str, *parts: Markup, style: str = "") -> Markup:
    """The picture; `told` is what a screen reader says and a pointer shows, empty for decoration."""
    title = Markup("<title>{}</title>").format(told) if told else Markup()
    role = Markup('role="img"') if told else Markup('aria-hidden="true"')
    return Markup('<svg class="chart {}" height="{}" {}>{}{}</svg>').format(
        style, height, role, title, Markup("").join(parts)
    )


def line(style: str, x: str, y1: float, y2: float) -> Markup:
    """An upright line."""
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(style, x, x, px(y1), px(y2))


def text(style: str, x: str, y: float, text: str, anchor: str) -> Markup:
    """Text at a place; `anchor` is start, middle or end."""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        style, x, px(y), anchor, text
    )


def percent(share: float) -> str:
    """A share as SVG takes it."""
    return f"{100 * share:.2f}%"


def px(value: float) -> str:
    """Pixels, to a tenth."""
    return f"{value:.1f}"
