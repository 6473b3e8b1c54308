"""Open 8-bit pictures with Pillow: what is accepted, what is refused, and JPEG decoding at a reduced scale."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from .errors import InputError
from .held import opened_whole
from .limits import MAX_PIXELS, check_file
from .quiet import quiet

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "PPM", "WEBP")
LOSSY = ("JPEG", "MPO")

ORIENTATION_TAG = 0x0112
UPRIGHT: dict[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the transposition that puts the picture upright."""


@dataclass(frozen=True)
class Header:
    """What is known of a picture before decoding: (h, w) as stored in the file, EXIF orientation 1 to 8, Pillow's mode and format."""

    size: tuple[int, int]
    orientation: int
    mode: str
    format: str

    @property
    def upright_size(self) -> tuple[int, int]:
        """(h, w) after the EXIF orientation is applied."""
        return self.size[::-1] if self.orientation >= 5 else self.size


@contextmanager
def opened(path: Path) -> Iterator[tuple[Image.Image, Header]]:
    """Open a picture lazily, checked: 8 bits per channel, one frame (MPO: the first picture), within the limits.

    Yields Pillow's image, not decoded yet, and its header.  Raises InputError.
    """
    check_file(path)
    try:
        stream = opened_whole(path)
    except OSError:
        raise InputError("decode-failed") from None
    with stream:
        yield from _opened(stream)


def _opened(stream: BinaryIO) -> Iterator[tuple[Image.Image, Header]]:
    try:
        image = Image.open(stream, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError("too-large", "the picture has more pixels than the limit") from None
    except UnidentifiedImageError:
        raise InputError("unsupported-format", "the file is no JPEG, PNG, TIFF, BMP, PPM or WebP, or its header is damaged") from None
    except Exception:
        raise InputError("decode-failed") from None
    with image:
        yield image, _checked_header(image)


def reduced(image: Image.Image, factor: int) -> Image.Image:
    """Have the JPEG decoder skip detail: 1/factor of the size, rounded up (1, 2, 4 or 8); other formats decode in full."""
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
    return decoded(image)


def decoded(image: Image.Image) -> Image.Image:
    """Decode now; raises InputError `decode-failed` for damaged data."""
    try:
        image.load()
    except Exception:
        raise InputError("decode-failed") from None
    return image


def to_grey_or_rgb(image: Image.Image) -> Image.Image:
    """Bring a decoded picture to mode L or RGB; raises InputError `has-transparency`, `unsupported-colour`."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode in ("1", "P", "PA", "LA", "RGBA", "L", "RGB"):
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            raise InputError("has-transparency")
        return rgba.convert("L" if image.mode in ("1", "LA", "L") else "RGB")
    raise InputError("unsupported-colour")


def _checked_header(image: Image.Image) -> Header:
    width, height = image.size
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise InputError("too-large", "the picture has more pixels than the limit")
    # Pillow reads 16-bit RGB as mode "RGB" and drops the low bytes without a word: the raw mode tells.
    tiles: list[Any] = getattr(image, "tile", [])
    raw_modes = {str(tile[3][0] if isinstance(tile[3], tuple) else tile[3]) for tile in tiles}
    if image.mode in ("I", "F", "I;16", "I;16B", "I;16L", "I;16N") or any("16" in mode for mode in raw_modes):
        raise InputError("not-8-bit")
    if image.format == "PPM" and any(isinstance(tile[3], tuple) for tile in tiles):
        # Pillow stretches other ranges than 0 to 255 on the fly, class indices included.
        raise InputError("not-8-bit", "the picture's highest level is not 255")
    try:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames != 1:
            raise InputError("multiple-frames")
        # For a PNG this decodes the pixels as well, since its EXIF block may follow them.
        with quiet():
            orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except InputError:
        raise
    except Exception:
        raise InputError("decode-failed", "the picture, its EXIF block or its list of frames is damaged") from None
    if orientation not in UPRIGHT:
        orientation = 1
    return Header((height, width), int(orientation), image.mode, str(image.format))
