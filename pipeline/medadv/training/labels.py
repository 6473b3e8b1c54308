"""Labels as training pipelines hold them, in the form that a victim takes."""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn

from medadv.datasets.labels import Array, Boxes, Label
from medadv.training.networks import OwnSegmenter
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import IGNORE, Segmenter
from medadv.victims.victim import TaskModel

_warned: WeakSet[nn.Module] = WeakSet()


def labels_of(victim: TaskModel, batch: Mapping[Hashable, Any], label_key: Hashable, spatial: Sequence[int]) -> list[Label]:
    """One label a sample, checked and in the victim's form.

    batch: labels under `label_key`, or `boxes` and `classes` (or `labels`) of a detection batch.  spatial: the images' shape.

    Raises:
        KeyError: no labels.
        ValueError: labels that do not fit the victim or the images.
    """
    raw = _raw(victim, batch, label_key)
    if isinstance(victim, Segmenter):
        masks = [_mask(victim, _array(label), tuple(spatial)) for label in raw]
        _warn_of_255(victim, masks)
        return [victim.as_label(mask) for mask in masks]
    if isinstance(victim, Classifier):
        return [victim.as_label(_class(victim, _array(label))) for label in raw]
    return [victim.as_label(label if isinstance(label, Boxes) else _boxes(label)) for label in raw]


def _raw(victim: TaskModel, batch: Mapping[Hashable, Any], label_key: Hashable) -> Sequence[Any]:
    if label_key in batch:
        return batch[label_key]
    classes = "classes" if "classes" in batch else "labels"
    if victim.task != "detection" or "boxes" not in batch or classes not in batch:
        wanted = f"{label_key!r}, nor 'boxes' and 'classes'" if victim.task == "detection" else f"{label_key!r}"
        raise KeyError(f"the batch has no {wanted}; there are {', '.join(map(repr, batch))}")
    return [{"boxes": boxes, "labels": each} for boxes, each in zip(batch["boxes"], batch[classes], strict=True)]


def _array(label: Any) -> Array:
    values = np.asarray(label.detach().cpu() if isinstance(label, Tensor) else label)
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        raise ValueError("labels hold fractions: resample masks with mode='nearest', and give classes as whole numbers or one-hot")
    return values


def _class(victim: Classifier, values: Array) -> Array:
    """(), (1,) and one-hot (K,) for a softmax head; (K,) for a sigmoid one."""
    if victim.head != "softmax" or values.ndim == 0:
        return values
    flat = values.reshape(-1)
    if len(flat) == 1:
        return np.asarray(flat[0])
    if len(flat) == victim.classes and np.isin(flat, (0, 1)).all() and flat.sum() == 1:
        return np.asarray(flat.argmax())
    raise ValueError(f"label {flat.tolist()[:10]} is neither one class nor one-hot over the network's {victim.classes} classes")


def _mask(victim: Segmenter, values: Array, spatial: tuple[int, ...]) -> Array:
    """(*spatial), (1, *spatial) and, one-hot or a mask a class, (K, *spatial)."""
    if values.shape[values.ndim - len(spatial) :] != spatial or values.ndim not in (len(spatial), len(spatial) + 1):
        raise ValueError(f"a mask has shape {list(values.shape)} beside images of {list(spatial)}; (1, *spatial) is what transforms keep")
    if isinstance(victim, OwnSegmenter) and victim.ignore_index is not None:
        values = np.where(values == victim.ignore_index, IGNORE, values)
    if values.size and values.min() < 0:
        raise ValueError(f"a mask holds {values.min():g}: where that means ignore, as_victim(…, ignore_index={values.min():g})")
    if values.ndim == len(spatial):
        return values
    if len(values) == 1:
        # MONAI keeps one channel for index masks.
        return np.asarray(values[0])
    if victim.head != "softmax":
        return values
    if len(values) != victim.classes or not np.isin(values, (0, 1)).all() or not (values.sum(0) == 1).all():
        raise ValueError(f"a mask has {len(values)} channels, which are not one-hot over the network's {victim.classes} classes")
    return np.asarray(values.argmax(0))


def _warn_of_255(victim: Segmenter, masks: Sequence[Array]) -> None:
    """Once a network: masks of 0 and 255 are how pictures show a class, and how medadv says "ignore"."""
    if getattr(victim, "ignore_index", None) == IGNORE or victim.module in _warned:
        return
    if any((mask == IGNORE).any() for mask in masks) and all(np.isin(mask, (0, IGNORE)).all() for mask in masks):
        _warned.add(victim.module)
        warnings.warn(
            "the masks hold 255 and no class but 0, and 255 is ignored: where it is a class, divide masks by 255; where it means ignore, "
            "as_victim(…, ignore_index=255) says so",
            UserWarning,
            stacklevel=4,
        )


def _boxes(label: Mapping[str, Any]) -> Boxes:
    boxes = torch.as_tensor(label["boxes"]).cpu()
    classes = torch.as_tensor(label["labels"] if "labels" in label else label["classes"]).cpu()
    dims = boxes.shape[-1] // 2 if boxes.ndim == 2 and boxes.shape[-1] else 2
    found = Boxes.of(boxes, classes, dims=dims)
    if len(found.boxes) != len(found.classes):
        raise ValueError(f"{len(found.boxes)} boxes and {len(found.classes)} classes in one image")
    if (found.boxes[:, dims:] <= found.boxes[:, :dims]).any():
        raise ValueError("a box has no extent along an axis: drop such boxes after crops and zooms, and give low edges before high ones")
    return found
