"""Draws line charts as inline SVG: sharp in print, no script, no font but the page's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 46
COLOURS = ("#1a5fb4", "#c64600", "#26742e", "#813d9c", "#986a44", "#0b7a75", "#a51d2d", "#5e5c64")
TICKS = 5
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
    box = f'viewBox="0 0 {WIDTH} {HEIGHT + 16 * (len(series) if len(series) > 1 else 0)}" width="{WIDTH}"'
    return f'<svg {box} role="img" stroke-width="2">{"".join(lines)}</svg>'


def _axes(labels: tuple[str, str], x_range: Range, y_range: Range) -> str:
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [
        f'<rect x="{LEFT}" y="{TOP}" width="{wide}" height="{high}" fill="none" stroke="#999" stroke-width="1"/>',
    ]
    for n in range(TICKS + 1):
        x_value = x_range[0] + n / TICKS * (x_range[1] - x_range[0])
        y_value = y_range[0] + n / TICKS * (y_range[1] - y_range[0])
        x, y = _x(x_value, x_range), _y(y_value, y_range)
        parts.append(f'<path d="M{x:.1f} {TOP}V{TOP + high}M{LEFT} {y:.1f}H{LEFT + wide}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + high + 16}" text-anchor="middle">{x_value:.3g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{y_value:.3g}</text>')
    middle = LEFT + wide / 2
    parts.append(f'<text x="{middle}" y="{TOP + high + 36}" text-anchor="middle">{escape(labels[0])}</text>')
    turn = f'transform="translate(14 {TOP + high / 2}) rotate(-90)" text-anchor="middle"'
    return "".join([*parts, f"<text {turn}>{escape(labels[1])}</text>"])


def _legend(n: int, name: str) -> str:
    y = HEIGHT + 16 * n + 4
    colour = COLOURS[n % len(COLOURS)]
    return f'<path d="M{LEFT} {y - 4}h22" stroke="{colour}"/><text x="{LEFT + 28}" y="{y}">{escape(name)}</text>'


def _x(value: float, of: Range) -> float:
    return LEFT + (value - of[0]) / (of[1] - of[0]) * (WIDTH - LEFT - RIGHT)


def _y(value: float, of: Range) -> float:
    return HEIGHT - BOTTOM - (value - of[0]) / (of[1] - of[0]) * (HEIGHT - TOP - BOTTOM)
