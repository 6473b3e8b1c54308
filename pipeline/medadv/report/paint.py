"""Arrays to PNG data URIs: windows, overlays, boxes and the signed map, in colours that most eyes tell apart."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from medadv.datasets.labels import Array, Boxes

WINDOWS = {"lung": (-1350.0, 150.0), "soft-tissue": (-160.0, 240.0), "bone": (-450.0, 1050.0)}
"""Named CT windows, HU."""
LONGEST = 384
SHORTEST_SHOWN = 256
"""Small images are enlarged by whole factors, so that outlines are thin and pixels stay visible; large ones are reduced."""
NEGATIVE, POSITIVE = (33, 102, 172), (179, 88, 6)
"""Blue to white to brown, after ColorBrewer."""
CLASSES = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0), (0, 114, 178))
"""Okabe and Ito."""
TRUTH, ANSWER = (86, 180, 233), (230, 159, 0)
FILL = 0.35
QUALITY = 82
"""Of JPEG, out of 95."""


def grey(image: Array, window: tuple[float, float] | None) -> Array:
    """(C, h, w) stored units to (h, w, 3) uint8; window: HU shown as black and white, None for 8-bit images."""
    values = image.astype(np.float64)
    if window is not None:
        values = 255 * (values - window[0]) / (window[1] - window[0])
    shown = np.clip(np.round(values), 0, 255).astype(np.uint8)
    return np.moveaxis(shown[:3] if len(shown) >= 3 else np.repeat(shown[:1], 3, 0), 0, -1)


def signed(perturbation: Array, limit: float) -> Array:
    """(C, h, w) to (h, w, 3) uint8: the mean over channels, white at 0, full colour at -limit and +limit."""
    share = np.clip(perturbation.mean(0) / max(limit, 1e-9), -1, 1)[..., None]
    ends = np.where(share < 0, np.array(NEGATIVE, float), np.array(POSITIVE, float))
    return np.round(255 + (ends - 255) * np.abs(share)).astype(np.uint8)


def overlay(picture: Array, mask: Array, scale: int) -> Array:
    """Every class of a mask (h, w) of indices, or (K, h, w) of zeros and ones, tinted and outlined on the enlarged picture."""
    shown = enlarge(picture, scale).astype(np.float64)
    if mask.ndim == 2:
        planes = [(value, mask == value) for value in np.unique(mask) if value not in (0, 255)]
    else:
        planes = [(number + 1, plane == 1) for number, plane in enumerate(mask)]
    for value, plane in planes:
        colour = np.array(CLASSES[(int(value) - 1) % len(CLASSES)], float)
        big = enlarge(plane, scale)
        shown[big] = (1 - FILL) * shown[big] + FILL * colour
        shown[_outline(big)] = colour
    return np.round(shown).astype(np.uint8)


def draw_boxes(picture: Array, scale: int, boxes: Boxes, colour: tuple[int, int, int], shown: Image.Image | None = None) -> Image.Image:
    """Boxes with a dark edge on the enlarged picture, which may have boxes already."""
    drawn = shown if shown is not None else Image.fromarray(enlarge(picture, scale))
    pen = ImageDraw.Draw(drawn)
    for box in boxes.boxes:
        corners = [float(v) * scale for v in box]
        if corners[2] > corners[0] and corners[3] > corners[1]:
            pen.rectangle(corners, outline=(0, 0, 0), width=5)
            pen.rectangle([corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1], outline=colour, width=3)
    return drawn


def scale_for(shape: Sequence[int]) -> int:
    """Whole factor by which a picture of (h, w) is enlarged."""
    return max(1, -(-SHORTEST_SHOWN // max(shape)))


def enlarge(values: Array, scale: int) -> Array:
    """Each pixel as a square."""
    return values if scale == 1 else values.repeat(scale, 0).repeat(scale, 1)


def png(picture: Array | Image.Image) -> str:
    """A data URI of an (h, w, 3) uint8 picture, reduced to `LONGEST` pixels where it is larger."""
    return _uri(picture, "PNG")


def jpeg(picture: Array | Image.Image) -> str:
    """The same as JPEG, a fifth as large: for what is looked through and not at."""
    return _uri(picture, "JPEG", quality=QUALITY)


def _uri(picture: Array | Image.Image, kind: str, **settings: int) -> str:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if max(image.size) > LONGEST:
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **settings)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()


def cut(picture: Array, middle: tuple[float, float], side: int) -> Array:
    """A square of a picture (h, w, 3) around a point (row, column), moved so that it lies inside; the whole of a smaller one."""
    places = []
    for length, at in zip(picture.shape[:2], middle, strict=True):
        start = int(min(max(0, round(at) - side // 2), max(0, length - side)))
        places.append(slice(start, start + side))
    return picture[places[0], places[1]]


def _outline(mask: Array) -> Array:
    """Pixels of a mask that touch its outside, two wide on enlarged pictures."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inside)
