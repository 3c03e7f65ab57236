"""Draws line charts as inline SVG: sharp in print, no script, no font but the page's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 46
LEGEND = 150
"""Room to the right of the axes for the names of several lines."""
LONGEST = 18
"""Characters of a name that find room there."""
COLOURS = ("#1a5fb4", "#c64600", "#26742e", "#813d9c", "#986a44", "#0b7a75", "#a51d2d", "#5e5c64")
TICKS = 5
"""About so many steps from one end of an axis to the other."""
Points = Sequence[tuple[float, float]]
Range = tuple[float, float]


def line_chart(
    series: Mapping[str, Points],
    labels: tuple[str, str],
    x_range: Range,
    y_range: Range,
    marked: tuple[float, float] | None = None,
) -> str:
    """Draws the lines as an <svg>, clipped to the ranges; `labels` are of x and y axis; `marked` gets a ring."""
    lines = [_axes(labels, x_range, y_range)]
    frame = f"{LEFT - 2} {TOP - 2} {WIDTH - LEFT - RIGHT + 4} {HEIGHT - TOP - BOTTOM + 4}"
    x, y, wide, high = frame.split()
    lines.append(
        f'<svg x="{x}" y="{y}" width="{wide}" height="{high}" viewBox="{frame}">'
    )  # clips what is outside
    for n, points in enumerate(series.values()):
        path = " ".join(f"{_x(x, x_range):.1f},{_y(y, y_range):.1f}" for x, y in points)
        colour = COLOURS[n % len(COLOURS)]
        lines.append(f'<polyline fill="none" stroke="{colour}" points="{path}"/>')
    lines.append("</svg>")
    if marked:
        cx, cy = _x(marked[0], x_range), _y(marked[1], y_range)
        lines.append(
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="6" fill="none" stroke="#a51d2d" stroke-width="2.5"/>'
        )
    if len(series) > 1:
        lines += [_legend(n, name) for n, name in enumerate(series)]
    width = WIDTH + (LEGEND if len(series) > 1 else 0)
    box = f'viewBox="0 0 {width} {HEIGHT}" width="{width}"'
    return f'<svg {box} role="img" stroke-width="2">{"".join(lines)}</svg>'


def _axes(labels: tuple[str, str], x_range: Range, y_range: Range) -> str:
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [
        f'<rect x="{LEFT}" y="{TOP}" width="{wide}" height="{high}" fill="none" stroke="#999" stroke-width="1"/>',
    ]
    for value in ticks(x_range):
        x = _x(value, x_range)
        parts.append(f'<path d="M{x:.1f} {TOP}V{TOP + high}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + high + 16}" text-anchor="middle">{value:g}</text>')
    for value in ticks(y_range):
        y = _y(value, y_range)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + wide}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = LEFT + wide / 2
    parts.append(f'<text x="{middle}" y="{TOP + high + 36}" text-anchor="middle">{escape(labels[0])}</text>')
    turn = f'transform="translate(14 {TOP + high / 2}) rotate(-90)" text-anchor="middle"'
    return "".join([*parts, f"<text {turn}>{escape(labels[1])}</text>"])


def ticks(of: Range) -> list[float]:
    """The values within a range that an axis names: multiples of 1, 2 or 5 times a power of ten."""
    rough = (of[1] - of[0]) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(of[0] / step - 1e-9), math.floor(of[1] / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _legend(n: int, name: str) -> str:
    y = TOP + 16 * n + 10
    colour, short = COLOURS[n % len(COLOURS)], name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return (
        f'<path d="M{WIDTH} {y - 4}h18" stroke="{colour}"/><text x="{WIDTH + 24}" y="{y}">'
        f"<title>{escape(name)}</title>{escape(short)}</text>"
    )


def _x(value: float, of: Range) -> float:
    return LEFT + (value - of[0]) / (of[1] - of[0]) * (WIDTH - LEFT - RIGHT)


def _y(value: float, of: Range) -> float:
    return HEIGHT - BOTTOM - (value - of[0]) / (of[1] - of[0]) * (HEIGHT - TOP - BOTTOM)
