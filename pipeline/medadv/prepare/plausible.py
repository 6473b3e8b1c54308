"""Can this victim be right about these images at all? What cannot is refused before a first plan, with the fix.

A corpus that exists goes on.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.untouched import untouched
from medadv.common.errors import SpecError
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Shape
from medadv.plan.model import PlannedShard
from medadv.spec.modality import MODALITIES
from medadv.spec.normalize import NormalizeSettings
from medadv.spec.run_spec import RunSpec
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.loading import is_program
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import Victim
from medadv_transforms import InputError
from medadv_transforms.colour import PICTURE_RULES

SUM_TOLERANCE = 1e-3
"""Probabilities of all classes sum to 1 but for rounding in half precision."""
MEDIASTINUM = "[-160, 240]"


def check_settings(spec: RunSpec, shape: Shape) -> None:
    """Hold preprocessing, and normalisation and arguments of all victims, against the images.  Raises SpecError.

    shape: of a stored image.
    """
    _check_field(spec, shape)
    for key, settings in {**spec.named_victims, "second_victim": spec.second_victim}.items():
        if settings is not None:
            if isinstance(settings.normalize, NormalizeSettings):
                _check_normalize(f"{key}.normalize", settings.normalize, shape)
            _check_arguments(key, settings)


def _check_field(spec: RunSpec, shape: Shape) -> None:
    asked = [key for key in ("crop", "region") if getattr(spec.preprocess, key)]
    if asked and (shape.unit == "hu" or PICTURE_RULES[spec.data.modality].find_field is None):
        raise SpecError(
            f"preprocess.{asked[0]}: {MODALITIES[spec.data.modality].title} images have no field of view that is looked for: leave "
            f"{' and '.join(asked)} out"
        )


def _check_normalize(key: str, normalize: NormalizeSettings, shape: Shape) -> None:
    mean, std, window = normalize.mean, normalize.std, normalize.window
    if window is not None:
        if shape.unit == "level8" and (window[0] < 0 or window[1] > 255):
            raise SpecError(
                f"{key}.window={list(window)} is in HU, but the images are 8-bit pictures of 0 to 255: give mean and std of values in "
                "0 to 1, or window: [0, 255]"
            )
        return
    assert mean is not None
    assert std is not None
    if shape.unit == "hu" and all(0 < value < 1 for value in (*mean, *std)):
        raise SpecError(
            f"{key}: mean={mean} and std={std} are those of pictures in 0 to 1, but the images are in HU: give window: [low, high] in HU "
            f"as in training, such as window: [-1000, 400] or {MEDIASTINUM}"
        )
    if shape.unit == "level8" and max(mean) > 1:
        scaled = [[round(value / 255, 4) for value in values] for values in (mean, std)]
        raise SpecError(
            f"{key}.mean={mean} counts levels of 0 to 255; mean and std are of values in 0 to 1: divide both by 255, mean: {scaled[0]}, "
            f"std: {scaled[1]}"
        )
    # One channel is given to each of several means: grey images to a network of three channels.
    if shape.shape[0] not in (1, len(mean)):
        raise SpecError(
            f"{key}: {len(mean)} means for a network of {shape.shape[0]} channels: give mean and std one value a channel, "
            f"{shape.shape[0]} each"
        )


def _check_arguments(key: str, settings: VictimSettings) -> None:
    if settings.arguments and is_program(settings.network):
        raise SpecError(
            f"{key}.arguments: {settings.network} is a program and takes none: leave arguments out, or name the network that they build"
        )


def check_head(spec: RunSpec, victim: Victim) -> None:
    """Softmax over a single value is always 1.  Raises SpecError."""
    judge = victim.scored
    if isinstance(judge, Classifier | Segmenter) and judge.head == "softmax" and judge.classes == 1:
        place = "an image" if spec.data.task == "classification" else "a voxel"
        raise SpecError(
            f"victim.head=softmax: the network answers one value {place}, which a softmax makes 1 whatever it is: set victim.head: "
            "binary, or sigmoid where it is a label by itself, or take a network of two outputs"
        )


def check_second(spec: RunSpec, victim: Victim, second: Victim) -> None:
    """Whether the second victim can be asked about the labels of the attacked one.  Raises SpecError."""
    check_head(spec, second)
    own, others = (each.scored.classes for each in (victim, second))
    if own != others:
        background = ", background included" if spec.data.task == "detection" else ""
        raise SpecError(
            f"it answers {others} classes, and the attacked model {own}{background}: both are scored against the same labels; take one of "
            f"{own} classes, or leave second_victim out"
        )


def check_outputs(victim: Victim, shards: Sequence[PlannedShard], reader: Reader) -> list[str]:
    """Whether the victim answers logits on the first planned batch of which anything can be read; warnings, as sentences.

    victim: on the CPU.  Raises SpecError: the outputs are probabilities: within 0 and 1, summing to 1 over the classes, on every image; or
    they should be, and are none.
    """
    judge = victim.scored
    if not isinstance(judge, Classifier | Segmenter):
        return []
    ending = judge.module.ending if isinstance(judge.module, Normalized) else None
    if ending is not None and ending.activation != "none":
        _check_probabilities(victim, ending.activation, _first_batch(shards, reader))
        return []
    sums, within, seen = judge.classes >= 2, True, 0
    for image in _first_batch(shards, reader):
        with untouched(judge.module), torch.no_grad():
            outputs = judge.forward(_central(image, victim))
        seen += 1
        within &= bool(outputs.min() >= 0 and outputs.max() <= 1)
        sums &= within and bool((outputs.double().sum(1) - 1).abs().max() <= SUM_TOLERANCE)
        if not within:
            return []
    if seen and sums:
        raise SpecError(
            f"victim: the network answers probabilities (its {judge.classes} outputs lie within 0 and 1 and sum to 1), and medadv needs "
            "logits, what goes into the softmax: take the network's last softmax out, or say activation: softmax"
        )
    if not seen:
        return []
    return ["all outputs of the victim on the first batch lie within 0 and 1: where they are probabilities, say activation: sigmoid"]


def _check_probabilities(victim: Victim, activation: str, images: Iterator[Tensor]) -> None:
    """Raise SpecError where the deployed network answers something else than the activation would."""
    module = victim.scored.module
    assert isinstance(module, Normalized)
    for image in images:
        with untouched(module), torch.no_grad():
            answers = module.answers(_central(image, victim))
        low, high = float(answers.min()), float(answers.max())
        if low < 0 or high > 1:
            raise SpecError(
                f"victim.activation={activation}: the network answers values of {low:.4g} to {high:.4g}, which are no probabilities: leave "
                "activation out"
            )
        if activation == "softmax" and bool((answers.double().sum(1) - 1).abs().max() > SUM_TOLERANCE):
            raise SpecError(
                "victim.activation=softmax: the network's outputs do not sum to 1 over the classes: take head: sigmoid and activation: "
                "sigmoid where each class is answered by itself"
            )


def _first_batch(shards: Sequence[PlannedShard], reader: Reader) -> Iterator[Tensor]:
    """Images (1, C, *spatial) float32 of the first batch of which anything can be read, one at a time."""
    for batch in (batch for shard in shards for batch in shard.batches):
        some = False
        for planned in batch:
            try:
                image = reader.read(planned.source).image
            except (InputError, OSError):
                # Bad inputs are set aside, and failing disks tried again, by those who make the shards.
                continue
            some = True
            yield torch.from_numpy(image[None].astype(np.float32))
        if some:
            return


def _central(image: Tensor, victim: Victim) -> Tensor:
    """The middle of a volume that goes through a sliding window: one window tells as much as all."""
    shape = victim.scored.network_shape(image.shape[1:])[1:]
    starts = [max(0, have - want) // 2 for have, want in zip(image.shape[2:], shape, strict=True)]
    return image[(slice(None), slice(None), *(slice(start, start + want) for start, want in zip(starts, shape, strict=True)))]
