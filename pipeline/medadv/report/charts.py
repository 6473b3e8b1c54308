"""Histograms and intervals as inline SVG, with a text alternative each; black, blue and orange, told apart by shape too."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from medadv.datasets.labels import Array
from medadv.scoring.intervals import Interval

WIDTH, HEIGHT = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 10, 34
BINS = 20
BLUE, ORANGE = "#0072B2", "#D55E00"
"""Okabe and Ito's colours, safe for the common colour-vision deficiencies."""


def short(value: float) -> str:
    """A figure as short as it can be told."""
    if not np.isfinite(value):
        return "n/a"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value != round(value) else f"{value:.0f}"


def histogram(values: Array | Sequence[float], label: str, colour: str = BLUE, limits: tuple[float, float] | None = None) -> Markup:
    """Histogram of values (n,) with a line at the median; `limits` fixes the axis, so that attacks can be compared."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Markup("<p>not measured</p>")
    low, high = limits or (float(values.min()), float(values.max()))
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(values, bins=BINS, range=(low, high))
    width, height, most = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM, int(counts.max())
    base, step = TOP + height, width / BINS
    bars = [
        f'<rect x="{LEFT + i * step:.1f}" y="{base - height * n / most:.1f}" width="{step - 1:.1f}" height="{height * n / most:.1f}" '
        f'fill="{colour}"/>'
        for i, n in enumerate(counts)
        if n
    ]
    median = float(np.median(values))
    at = LEFT + width * (median - low) / (high - low)
    text = (
        f"Histogram of {label} over {len(values)} samples: smallest {short(values.min())}, median {short(median)}, "
        f"largest {short(values.max())}; highest bar {most} samples."
    )
    parts = [
        *bars,
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 6}" y2="{base}" stroke="#000" stroke-dasharray="3 2"/>',
        f'<line x1="{LEFT}" x2="{LEFT + width}" y1="{base}" y2="{base}" stroke="#444"/>',
        _text(LEFT, base + 14, short(low), "start"),
        _text(LEFT + width, base + 14, short(high), "end"),
        _text(LEFT + width / 2, base + 29, f"median {short(median)}", "middle"),
        _text(LEFT - 4, TOP + 9, str(most), "end"),
        _text(LEFT - 4, base, "0", "end"),
    ]
    return _svg(parts, text, HEIGHT)


def intervals(rows: Sequence[tuple[str, Interval, str]], label: str) -> Markup:
    """Points with their intervals on an axis from 0 to 1: (name, estimate, colour) from top to bottom; clean ones are filled circles,
    adversarial ones (orange) diamonds."""
    line, width, left = 26, 420, 150
    height = TOP + line * len(rows) + BOTTOM - 6
    span = width - left - 16
    parts = []
    for number in range(6):
        x = left + span * number / 5
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 26}" stroke="#ddd"/>')
        parts.append(_text(x, height - 10, f"{number / 5:g}", "middle"))
    for place, (name, estimate, colour) in enumerate(rows):
        y = TOP + line * place + line / 2
        parts.append(_text(left - 8, y + 4, name, "end"))
        if not np.isfinite(estimate.value):
            continue
        low, high, x = (left + span * min(1.0, max(0.0, v)) for v in (estimate.low, estimate.high, estimate.value))
        if np.isfinite(estimate.low):
            parts.append(f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
        turn = f' transform="rotate(45 {x:.1f} {y})"' if colour == ORANGE else ""
        parts.append(f'<rect x="{x - 4:.1f}" y="{y - 4}" width="8" height="8" rx="{0 if turn else 4}" fill="{colour}"{turn}/>')
    text = f"{label}: " + "; ".join(f"{n} {short(e.value)}, interval {short(e.low)} to {short(e.high)}" for n, e, _ in rows)
    return _svg(parts, text, height, width)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], text: str, height: float, width: float = WIDTH) -> Markup:
    # Every figure and colour above is made here, and texts are escaped one by one.
    title = escape(text)
    return Markup(f'<svg viewBox="0 0 {width} {height:g}" role="img" aria-label="{title}"><title>{title}</title>{"".join(parts)}</svg>')
