"""Charts of the evaluation's views: waterfall, reliability, curves over checkpoints, floors, counts and seeds.

As in `charts`: inline SVG without a library, x in percent and y in pixels, colours as classes of `evaluation.css`,
every value in a `<title>`, all text escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

from markupsafe import Markup

from residency.eval.comparison.views import Bin, CurvePoint, Interval
from residency.eval.pages.charts import Axis, Rise, axis, grid, line, percent, px, svg, text, tick_label

Show = Callable[[float], str]
COUNTED = ("better", "equivalent", "undecided", "worse")


def floors(value: float, reference: float, known: Mapping[str, float], told: str) -> Markup:
    """A scale from 0 to 1: the model filled, the reference hollow, and a tick for each floor."""
    span = Axis(0.0, 1.0, ())
    ticks = [
        Markup('<line class="floor" x1="{0}" x2="{0}" y1="2" y2="18"><title>{1}</title></line>').format(
            percent(span.at(floor)), f"{name} {floor:.2f}"
        )
        for name, floor in known.items()
    ]
    dots = [
        Markup('<circle class="dot {}" cx="{}" cy="10" r="4"/>').format(style, percent(span.at(place)))
        for style, place in (("second", reference), ("first", value))
    ]
    track = Markup('<rect class="track" width="100%" height="4" y="8" rx="2"/>')
    return svg(20, told, track, *ticks, *dots)


def counts(numbers: Mapping[str, int], told: str) -> Markup:
    """One bar cut into the tasks that are better, equivalent, undecided and worse."""
    total, left, parts = sum(numbers.values()) or 1, 0.0, []
    for name in COUNTED:
        if share := numbers.get(name, 0) / total:
            parts.append(
                Markup('<rect class="part {}" x="{}" width="{}" height="22"/>').format(
                    name, percent(left), percent(share)
                )
            )
            parts.append(text(f"inside {name}", percent(left + share / 2), 15, str(numbers[name]), "middle"))
            left += share
    return svg(22, told, *parts)


def waterfall(
    start: str, steps: Sequence[tuple[str, Interval]], total: Interval, *, lower: bool, show: Show, told: str
) -> Markup:
    """What each stage added, bar on bar, and their sum; up is better.

    Args:
        start: the stage that the sum starts from.
        steps: stage and its difference to the stage before.
        lower: whether a difference below 0 is the better one; it is then drawn upwards.
    """
    sign = -1.0 if lower else 1.0
    levels = [0.0, *accumulate(sign * delta[0] for _, delta in steps)]
    whiskers = [sign * end + level for level, (_, delta) in zip(levels, steps, strict=False) for end in delta]
    span = axis([*levels, *whiskers, *(sign * end for end in total)], ticks=3)
    y = Rise(span, top=24, bottom=148)
    bars = [(name, level, delta) for level, (name, delta) in zip(levels, steps, strict=False)]
    columns = [*bars, ("total", 0.0, total)]
    width = 1 / (len(columns) + 1)
    labels = grid(span, y) if not lower else _flipped_grid(span, y)
    parts = [labels, Markup('<line class="zero" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(px(y(0)))]
    parts.append(text("tick", percent(width / 2), 168, _short(start, len(columns) + 1), "middle"))
    parts.append(text("value", percent(width / 2), y(0) - 7, "0", "middle"))
    for place, (name, base, delta) in enumerate(columns, 1):
        style = "total" if name == "total" else _direction(sign, delta)
        parts.append(_bar(place * width, width, y, base, [sign * end for end in delta], style))
        top = min(y(base + sign * end) for end in delta)
        middle = percent((place + 0.5) * width)
        parts.append(text("value", middle, min(top, y(base)) - 7, show(delta[0]), "middle"))
        parts.append(text("tick", middle, 168, _short(name, len(columns) + 1), "middle"))
    for (_, before, delta), (place, _) in zip(bars, pairwise(range(1, len(columns) + 1)), strict=False):
        level = px(y(before + sign * delta[0]))
        parts.append(
            Markup('<line class="joint" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                percent((place + 0.82) * width), percent((place + 1.18) * width), level, level
            )
        )
    return svg(174, told, *parts, style="plot")


def reliability(first: Sequence[Bin], second: Sequence[Bin], told: str) -> Markup:
    """How often the model was right (up) where it was so sure (right); the reference hollow, the diagonal ideal."""
    span = Axis(0.0, 1.0, (0.0, 0.5, 1.0))
    y = Rise(span, top=10, bottom=170)
    parts = [grid(span, y), Markup('<line class="ideal" x1="0" x2="100%" y1="170" y2="10"/>')]
    for style, bins in (("second", second), ("first", first)):
        for one, two in pairwise(bins):
            parts.append(
                Markup('<line class="path {}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
                    style, percent(one.confidence), px(y(one.accuracy)),
                    percent(two.confidence), px(y(two.accuracy)),
                )
            )  # fmt: skip
        for each in bins:
            parts.append(line(f"whisker thin {style}", percent(each.confidence), y(each.high), y(each.low)))
            parts.append(
                Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
                    style, percent(each.confidence), px(y(each.accuracy)),
                    f"{each.confidence:.0%} sure, right in {each.accuracy:.0%} of {each.items} items",
                )
            )  # fmt: skip
    parts += [text("tick", percent(at), 186, tick_label(at), "middle") for at in (0.0, 0.5, 1.0)]
    return svg(190, told, *parts, style="plot")


def course(
    points: Sequence[CurvePoint], marks: Sequence[tuple[int, str]], *, lower: bool, show: Show, told: str
) -> Markup:
    """A value over the checkpoints of one training, its interval as a band, the start dashed, the gap shaded.

    Args:
        points: in the order of training; the first is the start.
        marks: step and its name, such as (12, "bottom").
        lower: whether less is better.
    """
    span = axis([end for point in points for end in (point.value, point.low, point.high)], ticks=3)
    y, last = Rise(span, top=26, bottom=148), points[-1].step or 1
    start = y(points[0].value)
    parts = [grid(span, y)]
    outline = [(point.step, point.high) for point in points]
    outline += [(point.step, point.low) for point in reversed(points)]
    parts.append(_drawn("polygon", "shade", [(step / last, y(value)) for step, value in outline]))
    gap = [(point.step / last, y(point.value)) for point in points]
    below = [(x, min(place, start) if lower else max(place, start)) for x, place in gap]
    parts.append(_drawn("polygon", "gap", [(0, start), *below, (1, start)]))
    parts.append(Markup('<line class="chance" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(px(start)))
    parts.append(_drawn("polyline", "curve", gap))
    named = dict(marks)
    for point in points:
        x, place = percent(point.step / last), y(point.value)
        what = f"step {point.step:,}: {show(point.value)} [{show(point.low)}, {show(point.high)}]"
        parts.append(
            Markup('<circle class="dot first" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                x, px(place), "4.5" if point.step in named else "2.5", what
            )
        )
    for step, name in marks:
        value = next(point.value for point in points if point.step == step)
        parts.append(
            _mark(step / last, y, value, f"{name} {show(value)}", above=name.startswith("bottom") == lower)
        )
    parts.append(text("tick", "0", 168, "step 0", "start"))
    parts.append(text("tick", "100%", 168, f"{points[-1].step:,}", "end"))
    return svg(174, told, *parts, style="plot")


def seeds(values: Sequence[float], mean: float, span: Axis, margin: float, told: str) -> Markup:
    """The difference of each seed as a dot, their mean as a line, zero and the margin as in a forest plot."""
    left, right = span.at(-margin), span.at(margin)
    parts = [
        Markup('<rect class="band" x="{}" width="{}" y="0" height="100%"/>').format(
            percent(left), percent(right - left)
        ),
        Markup('<line class="zero" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(percent(span.at(0))),
        Markup('<line class="plan" x1="{0}" x2="{0}" y1="15%" y2="85%"/>').format(percent(span.at(mean))),
    ]
    parts += [
        Markup('<circle class="dot seed" cx="{}" cy="50%" r="4.5"/>').format(percent(span.at(value)))
        for value in values
    ]
    return svg("100%", told, *parts)


def _bar(left: float, width: float, y: Rise, base: float, ends: Sequence[float], style: str) -> Markup:
    """A bar from `base` to `base` + `ends[0]`, with the interval of its upper end."""
    one, two = sorted((y(base), y(base + ends[0])))
    low, high = (y(base + end) for end in ends[1:])
    return Markup("{}{}").format(
        Markup('<rect class="part {}" x="{}" width="{}" y="{}" height="{}"/>').format(
            style, percent(left + 0.18 * width), percent(0.64 * width), px(one), px(max(two - one, 1.5))
        ),
        line("whisker thin", percent(left + width / 2), min(low, high), max(low, high)),
    )


def _direction(sign: float, delta: Interval) -> str:
    low, high = sorted((sign * delta[1], sign * delta[2]))
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _flipped_grid(span: Axis, y: Rise) -> Markup:
    """The grid of an axis drawn upside down: labels carry the other sign."""
    lines = [
        Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(px(y(tick)))
        for tick in span.ticks
    ]
    labels = [text("tick", "-7", y(tick) + 4, tick_label(-tick or 0.0), "end") for tick in span.ticks]
    return Markup("").join([*lines, *labels])


def _drawn(shape: str, style: str, places: Sequence[tuple[float, float]]) -> Markup:
    """A polygon or line whose x are shares of the width."""
    path = " ".join(f"{1000 * x:.1f},{y:.1f}" for x, y in places)
    return Markup(
        '<svg width="100%" height="174" viewBox="0 0 1000 174" preserveAspectRatio="none">'
        '<{} class="{}" points="{}"/></svg>'
    ).format(Markup(shape), style, path)


def _mark(x: float, y: Rise, value: float, name: str, *, above: bool) -> Markup:
    """A named place of a curve; its name stays inside the picture."""
    anchor = "start" if x < 0.12 else "end" if x > 0.88 else "middle"
    return text("value", percent(x), y(value) + (-10 if above else 19), name, anchor)


def _short(name: str, columns: int) -> str:
    fits = max(4, round(46 / columns))
    return name if len(name) <= fits else f"{name[: fits - 1]}\u2026"
