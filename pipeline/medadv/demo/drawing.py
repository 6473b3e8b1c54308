"""What the three kinds of phantom have in common: seeds, noise, soft shapes, winding lines."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Plane = NDArray[np.float32]
"""A two-dimensional field, (y, x)."""


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """A generator of its own for every drawing, so that none depends on what was drawn before it."""
    parts = [zlib.crc32(str(part).encode()) for part in key]
    return np.random.default_rng([seed, *parts])


def plane(side: int) -> tuple[Plane, Plane]:
    """x and y of the pixel centres of a square image that spans [-1, 1], both (side, side)."""
    axis = ((np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: int | tuple[int, int]) -> Plane:
    """Random field of unit spread, (y, x), that varies over about `cells` bumps along each axis."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    knots = rng.standard_normal((rows + 3, columns + 3)).astype(np.float32)
    # One knot is cut off on every side: near its edge the interpolation has too few neighbours and looks flat.
    step = (shape[0] / rows, shape[1] / columns)
    large = Image.fromarray(knots).resize(
        (round(step[1] * (columns + 3)), round(step[0] * (rows + 3))), Image.Resampling.BICUBIC
    )
    top, left = round(step[0] * 1.5), round(step[1] * 1.5)
    field = np.asarray(large, dtype=np.float32)[top : top + shape[0], left : left + shape[1]]
    return np.asarray(field * np.float32(1.5), dtype=np.float32)


def smoothstep(low: float, high: float, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 below `low`, 1 above `high`, a cubic between; with low > high it falls instead."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def blob(
    rng: np.random.Generator, x: Plane, y: Plane, radii: tuple[float, float], angle: float, waviness: float
) -> Plane:
    """Distance from the origin of x and y, relative to the outline of a wavy ellipse about it: 1 on the outline."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (cos * x + sin * y) / np.float32(radii[0]), (cos * y - sin * x) / np.float32(radii[1])
    around = np.arctan2(v, u)
    outline = np.ones_like(around)
    for harmonic in range(2, 6):
        amplitude = waviness * rng.standard_normal() / harmonic
        outline += np.float32(amplitude) * np.cos(harmonic * around + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.asarray(np.hypot(u, v) / np.maximum(outline, 0.4), dtype=np.float32)


@dataclass(frozen=True)
class Winding:
    """How a vessel grows: everything in the units of the plane, angles in radians."""

    length: float
    width: float
    turn: float = 0.0
    wander: float = 0.08
    branches: float = 0.1
    depth: int = 3
    step: float = 0.025


Segment = tuple[float, float, float, float, float]
"""x and y of both ends, and the width."""


def grow(rng: np.random.Generator, start: tuple[float, float], heading: float, winding: Winding) -> list[Segment]:
    """A line that wanders from `start`, thins out and branches, as a list of short segments."""
    segments: list[Segment] = []
    (x, y), steps = start, max(2, int(winding.length / winding.step))
    sway = 0.0
    for index in range(steps):
        # The sway is correlated from step to step: vessels meander, they do not tremble.
        sway = 0.8 * sway + winding.wander * rng.standard_normal()
        heading += winding.turn * winding.step + sway * 0.5
        ahead_x, ahead_y = x + winding.step * np.cos(heading), y + winding.step * np.sin(heading)
        width = winding.width * (1 - 0.65 * index / steps)
        segments.append((x, y, float(ahead_x), float(ahead_y), width))
        x, y = float(ahead_x), float(ahead_y)
        if winding.depth > 0 and index > 1 and rng.random() < winding.branches:
            side = rng.choice((-1.0, 1.0))
            child = Winding(
                length=winding.length * (1 - index / steps) * rng.uniform(0.5, 0.9) + 4 * winding.step,
                width=width * rng.uniform(0.5, 0.8),
                turn=-side * 0.4,
                wander=winding.wander,
                branches=winding.branches,
                depth=winding.depth - 1,
                step=winding.step,
            )
            segments += grow(rng, (x, y), heading + side * rng.uniform(0.5, 1.0), child)
    return segments


def draw_segments(segments: list[Segment], side: int, fineness: int = 2) -> Plane:
    """How much of each pixel of a (side, side) plane the segments cover, in [0, 1]."""
    scale = side * fineness / 2
    canvas = Image.new("L", (side * fineness, side * fineness))
    pen = ImageDraw.Draw(canvas)
    for x0, y0, x1, y1, width in segments:
        line = ((x0 + 1) * scale, (y0 + 1) * scale, (x1 + 1) * scale, (y1 + 1) * scale)
        pen.line(line, fill=255, width=max(1, round(width * scale)))
    return np.asarray(canvas.reduce(fineness), dtype=np.float32) / np.float32(255)


def halve(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over squares of two by two pixels; the first two axes are (y, x)."""
    return np.asarray((image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4, dtype=np.float32)


def as_levels(rng: np.random.Generator, image: NDArray[np.float32], grain: float) -> NDArray[np.uint8]:
    """Photograph (y, x, 3) in [0, 1] with sensor noise of `grain` grey levels, as grey levels."""
    noise = rng.standard_normal(image.shape).astype(np.float32) * np.float32(grain)
    return np.clip(np.rint(image * 255 + noise), 0, 255).astype(np.uint8)
