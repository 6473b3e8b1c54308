"""The attack without a corpus: one call for training loops, and a MONAI dictionary transform around it.

Adversarial training of a classifier, each batch attacked with the weights of the moment:

>>> import torch, medadv
>>> from medadv_transforms.normalize import Normalize
>>> _ = torch.manual_seed(0)
>>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
>>> victim = medadv.as_victim(network, "classification", Normalize([0.5] * 3, [0.25] * 3), classes=2)
>>> optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
>>> batch = {"image": torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), "label": torch.tensor([0, 1, 1, 0])}
>>> adversarial = medadv.attack(victim, batch, {"attack": "smia", "epsilon": 4, "step": 1, "steps": 5})
>>> int((adversarial.int() - batch["image"].int()).abs().max())
4
>>> loss = torch.nn.functional.cross_entropy(victim.forward(adversarial.float()), batch["label"])
>>> loss.backward()
>>> optimiser.step()

The same inside a pipeline of transforms, for half of the samples:

>>> perturb = medadv.AdversarialPerturbd("image", victim, {"attack": "pgd", "epsilon": 4}, prob=0.5).set_random_state(seed=0)
>>> sample = perturb({"image": batch["image"][0], "label": batch["label"][0]})
>>> sample["image"].shape, sample["image"].dtype
(torch.Size([3, 8, 8]), torch.uint8)
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, RandomizableTransform
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.datasets.labels import Boxes, Label
from medadv.spec.attack import AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.loading import detector_of
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import TaskModel
from medadv_transforms.units import LATTICES

SEED_RANGE = 1 << 63


def as_victim(
    network: nn.Module,
    task: str,
    normalize: nn.Module,
    *,
    classes: int | None = None,
    head: str = "softmax",
    spatial_dims: int = 2,
    score_threshold: float = 0.5,
    x_first: bool = False,
) -> TaskModel:
    """A network of your own, ready to be attacked. It is used as it is, not copied: later training steps change the victim too.

    Args:
        network: takes normalised images; answers logits, or is a detector of torchvision or MONAI.
        task: classification, segmentation or detection.
        normalize: stored units to the network's input, differentiable, such as Normalize or Window of medadv_transforms.
        classes: number of logits; not for detection, where the network knows.
        head: softmax or sigmoid.
        spatial_dims: of the images, for segmentation.
        score_threshold: detections below it do not count.
        x_first: whether image tensors are (C, x, y[, z]), as CT is, instead of (C, y, x); for detection.

    Raises:
        ValueError: unknown task, or `classes` is missing.
    """
    module = Normalized(normalize, network)
    if task == "detection":
        return detector_of(module, score_threshold, x_first=x_first)
    if classes is None:
        raise ValueError(f"classes is missing: task {task!r} needs the number of logits")
    if task == "classification":
        return Classifier(module, head, classes)
    if task == "segmentation":
        return Segmenter(module, head, classes, spatial_dims)
    raise ValueError(f"task={task!r} is not classification, segmentation or detection")


def attack(
    victim: TaskModel,
    batch: Mapping[Hashable, Any],
    settings: AttackSettings | Mapping[str, Any],
    *,
    unit: str = "level8",
    image_key: Hashable = "image",
    label_key: Hashable = "label",
    seeds: Sequence[int] | None = None,
    region: Tensor | None = None,
    spacing_mm: Sequence[float] | None = None,
) -> Tensor:
    """Adversarial images of a batch; network, gradients and modes are left as they were.

    Args:
        victim: from `as_victim` or `load_victim`.
        batch: images (n, C, *spatial), whole stored units, of any dtype; labels as numbers (n,) or (n, K), masks (n, *spatial) or with one
            channel, or one {"boxes", "labels"} per image (x first, classes from 1).
        settings: as in a run spec, such as {"attack": "smia", "epsilon": 4}.
        unit: "level8" or "hu".
        image_key: key of the images.
        label_key: key of the labels.
        seeds: one per sample for its random start; drawn from torch's global generator when left out.
        region: (n, 1, *spatial), nonzero where perturbing is allowed.
        spacing_mm: voxel spacing, for `sigma_unit: mm`.

    Returns:
        (n, C, *spatial) in the dtype and on the device of the images, on the lattice and inside the epsilon ball.

    Raises:
        ValueError: images that are not whole stored units, labels that do not fit the victim, wrong settings.
    """
    chosen = settings if isinstance(settings, AttackSettings) else AttackSettings.model_validate(dict(settings))
    images: Tensor = batch[image_key]
    plain = images.as_tensor() if isinstance(images, MetaTensor) else images
    # Half precision cannot hold every HU.
    exact = plain if plain.dtype in (torch.float32, torch.float64) else plain.float()
    targets = victim.targets([victim.as_label(label) for label in _labels(victim, batch[label_key])], images.device)
    drawn = torch.randint(SEED_RANGE - 1, (len(images),)).tolist() if seeds is None else seeds
    delta = perturb(
        victim, exact.detach(), targets, chosen, lattice=LATTICES[unit], seeds=drawn, region=region, spacing_mm=spacing_mm
    )
    return (exact.detach() + delta).to(images.dtype)


class AdversarialPerturbd(RandomizableTransform, MapTransform):
    """Replace an image by its adversarial example against `victim`, with probability `prob`.

    For single samples (C, *spatial) in whole stored units, before any normalisation; everything else in the dictionary stays. The victim is
    used in the process that transforms: with DataLoader workers, keep it on the CPU. Random starts come from the transform's own state.
    """

    def __init__(
        self,
        keys: KeysCollection,
        victim: TaskModel,
        settings: AttackSettings | Mapping[str, Any],
        *,
        unit: str = "level8",
        label_key: Hashable = "label",
        prob: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.victim, self.unit, self.label_key = victim, unit, label_key
        self.settings = settings if isinstance(settings, AttackSettings) else AttackSettings.model_validate(dict(settings))
        self.seed = 0

    def randomize(self, data: Any = None) -> None:
        """Draw whether, and from which seed, the next sample is attacked."""
        super().randomize(data)
        self.seed = int(self.R.randint(0, SEED_RANGE - 1, dtype=np.int64))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize()
        if not self._do_transform:
            return result
        for key in self.key_iterator(result):
            image = torch.as_tensor(result[key])
            batch: dict[Hashable, Any] = {"image": image[None], "label": [result[self.label_key]]}
            found = attack(self.victim, batch, self.settings, unit=self.unit, seeds=[self.seed])[0]
            result[key] = MetaTensor(found, meta=image.meta) if isinstance(image, MetaTensor) else found
        return result


def _labels(victim: TaskModel, labels: Any) -> list[Any]:
    """One raw label a sample, in the form that `as_label` takes."""
    if victim.task == "detection":
        return [label if isinstance(label, Boxes) else _boxes(label) for label in labels]
    plain = [np.asarray(label.cpu() if isinstance(label, Tensor) else label) for label in labels]
    if isinstance(victim, Segmenter):
        # MONAI keeps one channel for index masks.
        return [mask[0] if mask.ndim == victim.spatial + 1 and len(mask) == 1 else mask for mask in plain]
    return plain


def _boxes(label: Mapping[str, Any]) -> Label:
    boxes = torch.as_tensor(label["boxes"]).cpu()
    return Boxes.of(boxes, torch.as_tensor(label["labels"]).cpu(), dims=boxes.shape[-1] // 2 if boxes.ndim == 2 else 2)
