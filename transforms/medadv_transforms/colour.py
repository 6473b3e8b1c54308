"""Read 8-bit pictures: fundus photographs, endoscopy frames, windowed CT slices."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import endoscopy, fundus
from .errors import InputError
from .loaded import LoadedImage
from .picture import UPRIGHT, Header, opened, reduced, to_grey_or_rgb
from .placement import Placement

Modality = Literal["fundus", "endoscopy", "ct"]
"""Kinds of pictures; medadv's own list of modalities is `spec/modality.py` there."""


@dataclass(frozen=True)
class PictureRules:
    """What a picture of a modality becomes, and what can be found on it; None where nothing can."""

    channels: int
    find_field: Callable[[NDArray[np.uint8]], fundus.Field] | None
    find_overlay: Callable[[NDArray[np.uint8]], NDArray[np.bool_]] | None


PICTURE_RULES: dict[str, PictureRules] = {
    "fundus": PictureRules(3, fundus.find_field, None),
    "endoscopy": PictureRules(3, endoscopy.find_field, endoscopy.find_overlay),
    "ct": PictureRules(1, None, None),
}
REDUCING_GAP = 1.5
"""A JPEG is decoded at 1/2, 1/4 or 1/8 when at least this many of the pixels that are left fall on one stored pixel, along each axis.

At 1.5 a 4288x2848 photograph at 256 px differs from one decoded in full by 0.1 grey levels on average, 2 at most.
"""


@dataclass(frozen=True)
class _Decoded:
    """A picture decoded at 1/factor, grey or RGB, in the orientation of the file."""

    image: Image.Image
    header: Header
    factor: int


def read_colour(
    path: str | Path,
    *,
    modality: Modality,
    size: tuple[int, int] | None = None,
    fit: Literal["stretch", "pad"] = "stretch",
    crop: bool = False,
    restrict_to_field: bool = False,
    exclude_overlay: bool = False,
) -> LoadedImage:
    """Read one picture as (3, h, w), or (1, h, w) for `modality="ct"`, uint8, unit "level8", axes "yx", upright by its EXIF orientation.

    size: (h, w) of the result, None keeps the pixels.  fit: `stretch`, or `pad` (aspect ratio kept, zeros around).
    crop: cut to the field of view (fundus) or to what the endoscope shows.  restrict_to_field: `region` is that field
    instead of everything.  exclude_overlay (endoscopy): take burnt-in text and boxes out of `region`. The padding is never in it.
    Deterministic: antialiased bilinear resizing, no random numbers.  Raises InputError.
    """
    path = Path(path)
    if modality not in PICTURE_RULES:
        raise ValueError(f"modality={modality!r}: take {', '.join(PICTURE_RULES)}")
    rules = PICTURE_RULES[modality]
    find_field, find_overlay = rules.find_field, rules.find_overlay
    if exclude_overlay and find_overlay is None:
        raise ValueError(f"exclude_overlay is for {_those(lambda other: other.find_overlay)}")
    if (crop or restrict_to_field) and find_field is None:
        raise ValueError(f"crop and restrict_to_field are for {_those(lambda other: other.find_field)}")
    # Text of a few pixels' height does not survive a reduced decoding.
    picture = _decode_at(path, 1) if exclude_overlay else _decode(path, size, fit)
    field = None
    if find_field is not None and (crop or restrict_to_field):
        field = find_field(np.asarray(picture.image))
    raw_crop = _crop_in_source(picture, field.box) if crop and field is not None else (0, 0, *picture.header.size)
    upright_crop = _upright_box(raw_crop, picture.header)
    placement = Placement.fitted(picture.header.upright_size, upright_crop, size, fit)
    needed = _reduction((upright_crop[2], upright_crop[3]), placement.scaled)
    if needed < picture.factor:
        picture = _decode_at(path, needed)
    pixels = _place(picture, raw_crop, placement)

    allowed: NDArray[np.bool_] | None = None
    if restrict_to_field and field is not None:
        allowed = field.mask
    if find_overlay is not None and exclude_overlay:
        overlay = find_overlay(np.asarray(picture.image))
        if allowed is not None and allowed.shape != overlay.shape:
            allowed = np.asarray(Image.fromarray(allowed).resize(overlay.shape[::-1], Image.Resampling.NEAREST))
        allowed = ~overlay if allowed is None else allowed & ~overlay
    region = None
    if allowed is not None:
        region = placement.frame(_upright(allowed, picture.header.orientation))
    elif placement.padded:
        region = placement.content()

    image, notes = _channels(pixels, rules.channels)
    facts: dict[str, Any] = {
        "modality": modality,
        "format": picture.header.format,
        "source_size": list(picture.header.upright_size),
        "exif_orientation": picture.header.orientation,
        "decoded_at": f"1/{picture.factor}",
        "clipped_voxels": 0,
        "warnings": notes,
    }
    if field is not None:
        facts["field_of_view"] = field.facts
    return LoadedImage(image, "level8", "yx", None, placement, region, facts)


def _decode(path: Path, size: tuple[int, int] | None, fit: str) -> _Decoded:
    with opened(path) as (image, header):
        whole = (0, 0, *header.upright_size)
        factor = _reduction(header.upright_size, Placement.fitted(header.upright_size, whole, size, fit).scaled)
        if header.format != "JPEG":
            factor = 1
        return _Decoded(to_grey_or_rgb(reduced(image, factor)), header, factor)


def _decode_at(path: Path, factor: int) -> _Decoded:
    with opened(path) as (image, header):
        return _Decoded(to_grey_or_rgb(reduced(image, factor)), header, factor)


def _reduction(size: tuple[int, int], scaled: tuple[int, int]) -> int:
    """The largest factor of 8, 4, 2, 1 that leaves REDUCING_GAP pixels for each stored one along both axes."""
    ratio = min(size[0] / scaled[0], size[1] / scaled[1])
    return next((factor for factor in (8, 4, 2) if ratio >= factor * REDUCING_GAP), 1)


def _crop_in_source(picture: _Decoded, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """A (top, left, bottom, right) box of the decoded pixels as (top, left, h, w) of the file's pixels, clipped to the picture."""
    height, width = picture.header.size
    top, left, bottom, right = (edge * picture.factor for edge in box)
    return top, left, min(bottom, height) - top, min(right, width) - left


def _upright_box(box: tuple[int, int, int, int], header: Header) -> tuple[int, int, int, int]:
    """Where a (top, left, h, w) box lies after the EXIF orientation."""
    top, left, height, width = box
    bottom_gap, right_gap = header.size[0] - top - height, header.size[1] - left - width
    boxes = {
        1: (top, left, height, width),
        2: (top, right_gap, height, width),
        3: (bottom_gap, right_gap, height, width),
        4: (bottom_gap, left, height, width),
        5: (left, top, width, height),
        6: (left, bottom_gap, width, height),
        7: (right_gap, bottom_gap, width, height),
        8: (right_gap, top, width, height),
    }
    return boxes[header.orientation]


def _upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply the EXIF orientation to (h, w, ...)."""
    flips = {1: (0, 0, 0), 2: (0, 0, 1), 3: (0, 1, 1), 4: (0, 1, 0), 5: (1, 0, 0), 6: (1, 0, 1), 7: (1, 1, 1), 8: (1, 1, 0)}
    transpose, rows, columns = flips[orientation]
    if transpose:
        array = array.swapaxes(0, 1)
    return array[:: -1 if rows else 1, :: -1 if columns else 1]


def _place(picture: _Decoded, raw_crop: tuple[int, int, int, int], placement: Placement) -> NDArray[np.uint8]:
    """Crop, resize, turn upright and pad: (h, w) or (h, w, 3) uint8."""
    top, left, height, width = raw_crop
    factor = picture.factor
    box = (left / factor, top / factor, (left + width) / factor, (top + height) / factor)
    scaled = placement.scaled[::-1] if picture.header.orientation >= 5 else placement.scaled
    image = picture.image
    if scaled == (height, width) and factor == 1:
        image = image.crop((left, top, left + width, top + height))
    else:
        image = image.resize((scaled[1], scaled[0]), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    if picture.header.orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[picture.header.orientation])
    pixels = np.asarray(image)
    if not placement.padded:
        return pixels
    canvas = np.zeros((*placement.size, *pixels.shape[2:]), np.uint8)
    canvas[placement.pad[0] :, placement.pad[1] :][: placement.scaled[0], : placement.scaled[1]] = pixels
    return canvas


def _those(able: Callable[[PictureRules], object]) -> str:
    return " and ".join(modality for modality, rules in PICTURE_RULES.items() if able(rules))


def _channels(pixels: NDArray[np.uint8], channels: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Channels first: three for photographs, one for CT, so that all images of a corpus share a shape."""
    if channels == 1:
        if pixels.ndim == 2:
            return np.ascontiguousarray(pixels[None]), []
        if not (pixels == pixels[..., :1]).all():
            raise InputError("unsupported-colour", "a CT slice is stored as a coloured picture")
        return np.ascontiguousarray(pixels[None, ..., 0]), ["stored as RGB with equal channels"]
    if pixels.ndim == 2:
        return np.repeat(pixels[None], 3, axis=0), ["grey picture, repeated to three channels"]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), []
