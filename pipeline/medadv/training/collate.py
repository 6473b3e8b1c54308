"""From samples to a batch: what has one shape is stacked, what has a length of its own stays a list."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

LISTS = ("boxes", "classes")
"""Keys whose values have a length of their own in each image."""


def collate(items: Sequence[Any]) -> dict[str, Any]:
    """Collate for DataLoader: images stacked as plain tensors, every sample's affine kept, ids and boxes as lists.

    items: dictionaries of CorpusDataset or of other MONAI data sets, or the lists of dictionaries that patch samplers give, which are laid
    end to end. `affine` is (n, 4, 4), each the image's own after its transforms; torch's default keeps the meta of the first sample alone
    when it meets MetaTensors, silently.

    Raises:
        ValueError: samples of different tasks or shapes, or that are no dictionaries.
    """
    samples = [with_own_affine(sample) for item in items for sample in (item if isinstance(item, list | tuple) else [item])]
    if not samples or not all(isinstance(sample, Mapping) for sample in samples):
        kinds = ", ".join(sorted({type(sample).__name__ for sample in samples})) or "nothing"
        raise ValueError(f"medadv.collate takes dictionaries, the transform gave {kinds}; torch's default_collate takes tuples")
    keys = list(samples[0])
    for sample in samples:
        if different := sorted(str(key) for key in set(keys) ^ set(sample)):
            raise ValueError(
                f"{', '.join(different)}: in some samples of this batch, not in others; a batch holds samples of one task, with the same "
                "transforms: give each corpus a loader of its own, or a batch sampler that does not mix them"
            )
    return {key: _together(key, [sample[key] for sample in samples]) for key in keys}


def with_own_affine(item: Any) -> Any:
    """A sample, or the list of them that a patch sampler gave, with `affine` as its image has it now, after the transforms.

    Left out where transforms took the image's own away: what is left then is the place that the image had before them.
    """
    if isinstance(item, list | tuple):
        return type(item)(with_own_affine(part) for part in item)
    if not isinstance(item, Mapping) or "affine" not in item:
        return item
    image = item.get("image")
    if isinstance(image, MetaTensor):
        return {**item, "affine": image.affine}
    return {key: value for key, value in item.items() if key != "affine"}


def _together(key: Any, values: Sequence[Any]) -> Any:
    first = values[0]
    if key in LISTS:
        # Detectors of torchvision and compiled code want plain tensors.
        return [value.as_subclass(Tensor) if isinstance(value, Tensor) else value for value in values]
    if isinstance(first, Tensor | np.ndarray):
        plain = [value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value) for value in values]
        if len(shapes := {tuple(value.shape) for value in plain}) > 1:
            raise ValueError(
                f"{key} has shapes {' and '.join(str(list(shape)) for shape in sorted(shapes))} in one batch: crop or pad to one shape "
                "(RandSpatialCropd, SpatialPadd), take batch_size=1, or, where corpora of different tasks meet, a loader for each"
            )
        return torch.stack(plain)
    if isinstance(first, np.number | np.bool_):
        return torch.as_tensor(np.asarray(values))
    if isinstance(first, bool | int | float):
        return torch.tensor(values)
    return values
