"""A job's metrics as a picture: an SVG that any browser, report or mail can show."""

from collections.abc import Sequence
from html import escape
from math import isfinite

from imts_shared.contracts.jobs import MetricSeries

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 40
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")
TICKS = 5


def svg(series: MetricSeries, names: Sequence[str], title: str) -> str:
    lines = {name: _points(series, name) for name in names}
    lines = {name: points for name, points in lines.items() if points}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif"'
        ' font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="14" fill="#111827">{escape(title)}</text>',
    ]
    if not lines:
        parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle" fill="#6b7280">no points yet</text>')
        return "\n".join([*parts, "</svg>"])
    steps = [step for points in lines.values() for step, _ in points]
    values = [value for points in lines.values() for _, value in points]
    across, down = _scale(min(steps), max(steps)), _scale(min(values), max(values))
    parts += _axes(across, down)
    for number, (name, points) in enumerate(lines.items()):
        parts += _line(name, points, number, across, down)
    return "\n".join([*parts, "</svg>"])


def _points(series: MetricSeries, name: str) -> list[tuple[int, float]]:
    found = ((point.step, point.values.get(name)) for point in series.points)
    return [(step, value) for step, value in found if value is not None and isfinite(value)]


def _scale(least: float, most: float) -> tuple[float, float]:
    if least == most:
        spread = abs(least) * 0.1 or 1.0
        return least - spread, most + spread
    return least, most


def _x(step: float, across: tuple[float, float]) -> float:
    return LEFT + (step - across[0]) / (across[1] - across[0]) * (WIDTH - LEFT - RIGHT)


def _y(value: float, down: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (value - down[0]) / (down[1] - down[0]) * (HEIGHT - TOP - BOTTOM)


def _axes(across: tuple[float, float], down: tuple[float, float]) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        value = down[0] + (down[1] - down[0]) * tick / TICKS
        y = _y(value, down)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#6b7280">{value:.4g}</text>')
        step = across[0] + (across[1] - across[0]) * tick / TICKS
        x = _x(step, across)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="middle" fill="#6b7280">{step:.0f}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end" fill="#6b7280">step</text>')
    return parts


def _line(
    name: str, points: list[tuple[int, float]], number: int, across: tuple[float, float], down: tuple[float, float]
) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    places = [(_x(step, across), _y(value, down)) for step, value in points]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    key = WIDTH - RIGHT - 130 * (number + 1)
    marks = (
        [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places] if len(places) < 60 else []
    )
    return [
        f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"/>',
        *marks,
        f'<line x1="{key}" x2="{key + 18}" y1="18" y2="18" stroke="{colour}" stroke-width="3"/>',
        f'<text x="{key + 24}" y="22" fill="#374151">{escape(name)}</text>',
    ]
