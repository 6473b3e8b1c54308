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

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, RandomizableTransform
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from medadv.attacks.engine import perturb
from medadv.spec.attack import AttackSettings
from medadv.training.augmentation import WORD, derived
from medadv.training.images import COARSE, as_plain, moved, on_lattice
from medadv.training.labels import labels_of
from medadv.training.networks import OwnNetwork, OwnSegmenter, device_of, precision, tell_what_is_left_out, unwrapped
from medadv.victims.loading import detector_of
from medadv.victims.tasks.classification import Classifier
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
    output: int | str | None = None,
    ignore_index: int | None = None,
) -> TaskModel:
    """A network of your own, ready to be attacked. It is used as it is, not copied: later training steps change the victim too.

    Args:
        network: takes normalised images; answers logits, or is a detector of torchvision or MONAI. In any precision (detectors in single or
            double), also inside DataParallel or DistributedDataParallel, which the attack goes around. Of Mask R-CNN and Keypoint R-CNN
            masks and keypoints are left out of the loss.
        task: classification, segmentation or detection.
        normalize: stored units to the network's input, differentiable, such as Normalize or Window of medadv_transforms.
        classes: number of logits; not for detection, where the network knows.
        head: softmax or sigmoid.
        spatial_dims: of the images, for segmentation.
        score_threshold: detections below it do not count.
        x_first: whether image tensors are (C, x, y[, z]), as CT is, instead of (C, y, x); for detection.
        output: position or name of the logits where the network gives several outputs (deep supervision) and their shapes do not tell.
        ignore_index: value of masks that means "ignore"; 255 does in any case, and said here it is not warned of.

    Raises:
        ValueError: unknown task, or `classes` is missing.
    """
    network = unwrapped(network)
    module = OwnNetwork(normalize, network, output)
    if task == "detection":
        tell_what_is_left_out(network)
        return detector_of(module, score_threshold, x_first=x_first)
    if classes is None:
        raise ValueError(f"classes is missing: task {task!r} needs the number of logits")
    if task == "classification":
        return Classifier(module, head, classes)
    if task == "segmentation":
        return OwnSegmenter(module, head, classes, spatial_dims, ignore_index)
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
    round_to_lattice: bool = False,
) -> Tensor:
    """Adversarial images of a batch; network, gradients and modes are left as they were.

    Args:
        victim: from `as_victim` or `load_victim`.
        batch: what `medadv.collate` makes of CorpusDataset's samples, as it is, or one of your own. Images (n, C, *spatial), whole stored
            units, tensors or arrays of any type. Labels as numbers (n,), (n, 1) or one-hot (n, K), for a sigmoid head (n, K); masks
            (n, 1, *spatial), (n, *spatial) or one-hot (n, K, *spatial); or for each image {"boxes", "labels" or "classes"}, x first,
            classes from 1, which without `label_key` may also stand in lists under `boxes` and `classes`.
        settings: as in a run spec, such as {"attack": "smia", "epsilon": 4}.
        unit: "level8" or "hu".
        image_key: key of the images.
        label_key: key of the labels.
        seeds: one per sample for its random start; drawn from torch's global generator when left out.
        region: (n, 1, *spatial), nonzero where perturbing is allowed.
        spacing_mm: voxel spacing, for `sigma_unit: mm`.
        round_to_lattice: round images that resampling left fractions in, and clip them to the range; the bound holds around the rounded.

    Returns:
        (n, C, *spatial) in the type and on the device of the images, on the lattice and inside the epsilon ball. Half precision, which does
        not hold every HU, gets the nearest value towards the image that it holds.

    Raises:
        KeyError: no labels.
        ValueError: images that are not whole stored units, labels that do not fit the victim, wrong settings.
    """
    chosen = settings if isinstance(settings, AttackSettings) else AttackSettings.model_validate(dict(settings))
    images = as_plain(batch[image_key])
    own = precision(victim.module)
    if victim.task == "detection" and own in COARSE:
        raise ValueError(f"the detector's weights are {own}, which does not hold the corners of boxes: give the attack network.float()")
    device = device_of(victim.module) or images.device
    drawn = torch.randint(SEED_RANGE - 1, (len(images),)).tolist() if seeds is None else seeds
    # Gradients are needed where the caller wants none; tensors made in inference mode have none, but their copies made here have.
    with torch.inference_mode(False):
        exact = images.detach().to(device, torch.float64 if own == torch.float64 else torch.float32, copy=True)
        exact = on_lattice(exact, LATTICES[unit], round_to_lattice)
        if not len(images):
            return images.clone()
        labels = labels_of(victim, batch, label_key, images.shape[2:])
        if len(labels) != len(images):
            raise ValueError(f"{len(labels)} labels for {len(images)} images: each image needs one of its own")
        targets = victim.targets(labels, device, chosen.goal)
        allowed = None if region is None else as_plain(region).to(device, copy=True)
        delta = perturb(victim, exact, targets, chosen, lattice=LATTICES[unit], seeds=drawn, region=allowed, spacing_mm=spacing_mm)
        return moved(exact, delta, images.dtype).to(images.device)


class AdversarialPerturbd(RandomizableTransform, MapTransform):
    """Replace an image by its adversarial example against `victim`, with probability `prob`.

    For single samples (C, *spatial) in whole stored units, before any normalisation, with labels as `attack` takes them; everything else in
    the dictionary stays. The victim is used in the process that transforms: with DataLoader workers, keep it on the CPU. Random starts come
    from the transform's own state, or from the sample's seed in a CorpusDataset; forked and spawned workers, of torch's loader too, never
    start alike.
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
        round_to_lattice: bool = False,
    ) -> None:
        """keys: of images.  prob: of an attack.  The others are those of `attack`."""
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.victim, self.unit, self.label_key = victim, unit, label_key
        self.settings = settings if isinstance(settings, AttackSettings) else AttackSettings.model_validate(dict(settings))
        self.round_to_lattice = round_to_lattice
        self.seed = 0
        self._state, self._process = self.R, os.getpid()

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> "AdversarialPerturbd":
        """As every Randomizable's."""
        super().set_random_state(seed, state)
        self._state, self._process = self.R, os.getpid()
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw whether, and from which seed, the next sample is attacked."""
        if self.R is self._state and self._process != os.getpid():
            # A worker that got its state from the process before it, as all others did: torch's loader gives each a seed.
            worker = get_worker_info()
            other = os.getpid() if worker is None else worker.seed
            self.set_random_state(derived(int(self.R.randint(0, WORD, dtype=np.int64)), str(other)) % WORD)
        super().randomize(data)
        self.seed = int(self.R.randint(0, SEED_RANGE - 1, dtype=np.int64))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize()
        if not self._do_transform:
            return result
        for key in self.key_iterator(result):
            image = result[key]
            batch: dict[Hashable, Any] = {"image": as_plain(image)[None], **self._labels(result)}
            found = attack(self.victim, batch, self.settings, unit=self.unit, seeds=[self.seed], round_to_lattice=self.round_to_lattice)[0]
            if isinstance(image, MetaTensor):
                found = MetaTensor(found, meta=image.meta, applied_operations=image.applied_operations)
            result[key] = found
        return result

    def _labels(self, sample: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A batch's labels of one sample."""
        if self.label_key in sample:
            return {"label": [sample[self.label_key]]}
        return {key: [sample[key]] for key in ("boxes", "classes", "labels") if key in sample}
