"""Where a photograph's pixels went: crop, scale and pad, applied to boxes and masks exactly as to the image."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError


@dataclass(frozen=True)
class Placement:
    """Crop of the upright source, scaled, then put on a canvas.

    source_size: (h, w) after EXIF orientation.  crop: (top, left, h, w) in source pixels.  scaled: (h, w) of the crop on the
    canvas.  pad: (top, left) of the crop on the canvas.  size: (h, w) of the canvas, the stored image.
    """

    source_size: tuple[int, int]
    crop: tuple[int, int, int, int]
    scaled: tuple[int, int]
    pad: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def fitted(cls, source_size: tuple[int, int], crop: tuple[int, int, int, int], size: tuple[int, int] | None, fit: str) -> "Placement":
        """Lay the crop out on a canvas of `size`: `stretch` fills it, `pad` keeps the aspect ratio and centres the crop."""
        height, width = crop[2:]
        if size is None:
            return cls(source_size, crop, (height, width), (0, 0), (height, width))
        if fit == "stretch":
            return cls(source_size, crop, size, (0, 0), size)
        if fit != "pad":
            raise ValueError(f"fit={fit!r} must be 'stretch' or 'pad'")
        scale = min(size[0] / height, size[1] / width)
        scaled = (min(size[0], max(1, round(height * scale))), min(size[1], max(1, round(width * scale))))
        return cls(source_size, crop, scaled, ((size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2), size)

    @property
    def padded(self) -> bool:
        """Whether the canvas shows more than the crop."""
        return self.scaled != self.size

    def boxes(self, xyxy: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes of the source, (m, 4) pixel edges, as stored boxes clipped to the crop, and the indices of those still there."""
        scale, offset = self._scale_offset()
        boxes = np.asarray(xyxy, np.float64).reshape(-1, 4) * scale + offset
        low = np.tile([self.pad[1], self.pad[0]], 2)
        high = low + np.tile([self.scaled[1], self.scaled[0]], 2)
        boxes = np.clip(boxes, low, high)
        kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        return boxes[kept].astype(np.float32), kept

    def to_source_boxes(self, xyxy: NDArray[Any]) -> NDArray[np.float32]:
        """The inverse of `boxes`: stored boxes (m, 4) in source pixels."""
        scale, offset = self._scale_offset()
        boxes = (np.asarray(xyxy, np.float64).reshape(-1, 4) - offset) / scale
        return boxes.astype(np.float32)

    def mask(self, array: NDArray[Any]) -> NDArray[Any]:
        """Nearest neighbour of a source-grid array (..., h, w) onto the stored grid; zero in the padding."""
        if array.shape[-2:] != self.source_size:
            swapped = array.shape[:-3:-1] == self.source_size
            why = "width and height exchanged: an EXIF orientation that one of the two lacks?" if swapped else "another size than its image"
            raise InputError("size-differs", f"the mask has {why}")
        return self.frame(array)

    def frame(self, array: NDArray[Any]) -> NDArray[Any]:
        """Like `mask`, for an array (..., a, b) that shows the whole source frame at any resolution."""
        rows = self._nearest(0, array.shape[-2])
        columns = self._nearest(1, array.shape[-1])
        stored = np.zeros((*array.shape[:-2], *self.size), array.dtype)
        top, left = self.pad
        stored[..., top : top + self.scaled[0], left : left + self.scaled[1]] = array[..., rows[:, None], columns[None, :]]
        return stored

    def content(self) -> NDArray[np.bool_]:
        """(h, w): true where the stored image shows the crop, false in the padding."""
        return self.frame(np.ones((1, 1), np.bool_))

    def as_dict(self) -> dict[str, list[int]]:
        """JSON form; `from_dict` reads it back."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Placement":
        """Read what `as_dict` wrote."""
        lengths: dict[str, Any] = {name: tuple(int(length) for length in value) for name, value in values.items()}
        return cls(**lengths)

    def _nearest(self, axis: int, length: int) -> NDArray[np.int64]:
        """Index of the source sample under each stored pixel centre along one axis; the source has `length` samples."""
        centres = self.crop[axis] + (np.arange(self.scaled[axis]) + 0.5) * (self.crop[2 + axis] / self.scaled[axis])
        indices = np.floor(centres * (length / self.source_size[axis])).astype(np.int64)
        return np.clip(indices, 0, length - 1)

    def _scale_offset(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        top, left, height, width = self.crop
        scale = np.array([self.scaled[1] / width, self.scaled[0] / height])
        offset = np.array([self.pad[1], self.pad[0]]) - np.array([left, top]) * scale
        return np.tile(scale, 2), np.tile(offset, 2)
