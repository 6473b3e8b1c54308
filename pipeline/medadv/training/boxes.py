"""Boxes between a corpus (x first) and MONAI's box transforms (in the order of the tensor's axes), and a tensor whose length is its own."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from torch import Tensor


class BoxesToTensorAxesd(MapTransform):
    """Boxes of a corpus for MONAI's box transforms: from x first to the order of the image's axes, (m, 2 * dims).

    MONAI counts a box's axes as the tensor does, so that `FlipBoxd(spatial_axis=0)` moves boxes along y beside a photograph (C, y, x). Put
    `BoxesToXFirstd` after the last box transform: `attack`, torchvision's detectors and all of medadv take x first.
    """

    def __init__(
        self, keys: KeysCollection = "boxes", axes: str | None = None, axes_key: str = "spatial_axes", allow_missing_keys: bool = False
    ) -> None:
        """
        Args:
            keys: of boxes, tensors, arrays or lists.
            axes: order of the image's spatial axes, such as "yx" for photographs, "xyz" for volumes; read from `axes_key` when None.
            axes_key: where CorpusDataset and datalist put that order.
            allow_missing_keys: whether samples without these keys pass.

        Raises:
            ValueError: axes that are not x, y and perhaps z, each once.
        """
        super().__init__(keys, allow_missing_keys)
        if axes is not None:
            _checked(axes)
        self.axes, self.axes_key = axes, axes_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return self._reordered(data, lambda axes: ["xyz".index(axis) for axis in axes])

    def _reordered(self, data: Mapping[Hashable, Any], order_of: Callable[[str], list[int]]) -> dict[Hashable, Any]:
        result = dict(data)
        if self.axes is None and self.axes_key not in result:
            raise ValueError(f"the sample has no {self.axes_key!r}: say axes='yx' for photographs, 'xyz' for volumes")
        axes = _checked(result[self.axes_key] if self.axes is None else self.axes)
        order = order_of(axes)
        for key in self.key_iterator(result):
            boxes = torch.as_tensor(result[key])
            if not boxes.numel():
                result[key] = boxes.reshape(0, 2 * len(axes))
            elif boxes.ndim != 2 or boxes.shape[1] != 2 * len(axes):
                raise ValueError(f"{key} have shape {list(boxes.shape)}; images with axes {axes} have boxes (m, {2 * len(axes)})")
            else:
                result[key] = boxes[:, [*order, *(axis + len(axes) for axis in order)]]
        return result


class BoxesToXFirstd(BoxesToTensorAxesd):
    """The way back from `BoxesToTensorAxesd`: from the order of the image's axes to x first. Arguments and errors are the same."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return self._reordered(data, lambda axes: [axes.index(axis) for axis in sorted(axes)])


def _checked(axes: str) -> str:
    if sorted(axes) not in (["x", "y"], ["x", "y", "z"]):
        raise ValueError(f"axes={axes!r} must name x and y, or x, y and z, each once, in the order of the image's axes")
    return axes


class OwnLength(Tensor):
    """Values of one image, (m, …), where m differs from image to image: a plain tensor, but that stacking says what to do instead."""

    @classmethod
    def of(cls, values: Any) -> "OwnLength":
        """A tensor or an array as one."""
        return torch.as_tensor(values).as_subclass(cls)

    def __deepcopy__(self, memo: dict[int, Any]) -> "OwnLength":
        # MONAI's croppers copy samples; torch's own copy does not take subclasses.
        copied = self.of(self.as_subclass(Tensor).detach().clone())
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.stack and len({tuple(value.shape) for value in args[0]}) > 1:
            lengths = ", ".join(str(len(value)) for value in args[0])
            raise ValueError(f"the images of a batch hold {lengths} boxes, which do not stack: DataLoader(…, collate_fn=medadv.collate)")
        return super().__torch_function__(func, types, args, kwargs or {})
