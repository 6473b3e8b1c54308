"""Do spec, inputs and victim fit each other? Said before any work."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from medadv.common.errors import SpecError
from medadv.prepare.plausible import check_head, check_second, check_settings
from medadv.prepare.survey import Survey
from medadv.spec.data import class_names
from medadv.spec.run_spec import RunSpec
from medadv.victims.loading import VictimRequest
from medadv.victims.several import against, each_of
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import Victim

ABSOLUTE = re.compile(r"(file:|[A-Za-z]:)?[/\\]|~")
"""What leads to a place whoever reads it: from a root, a drive, a share or a home."""


def refuse_paths(spec: RunSpec) -> None:
    """Raise SpecError where a victim's arguments lead to a place on this machine: the manifest publishes them."""
    for where, victim in spec.named_victims.items():
        for key, value in _texts(f"{where}.arguments", victim.arguments):
            if ABSOLUTE.match(value):
                raise SpecError(
                    f"{key} names a place on this machine, and arguments are published: write it relative to where the code is, or have "
                    "the factory find it (an environment variable)"
                )


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every string in a setting, with the key that it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from ((f"{key} (a key)", str(name)), *_texts(f"{key}.{name}", part))
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(key, part)


def check_kernels(spec: RunSpec, seen: Survey) -> None:
    """Reflection at the edges needs axes longer than half a kernel; axes of one voxel are not smoothed."""
    for name, attack in [(name, each) for name, settings in spec.attacks.items() for each in settings.each]:
        # Kernels in mm are as long as each image's spacing asks for, at most as long as in voxels.
        sizes = {"kernel_size": attack.kernel_size if attack.weight and attack.sigma_unit == "voxel" else 0}
        sizes["gradient_kernel_size"] = attack.gradient_kernel_size if attack.gradient_sigma else 0
        for key, size in sizes.items():
            for item in seen.found:
                if any(1 < length <= size // 2 for length in item.shape.shape[1:]):
                    raise SpecError(
                        f"attacks.{name}.{key}={size} does not fit {item.sample.source.images[0]} of {list(item.shape.shape[1:])} voxels: "
                        "take a smaller kernel, or leave that image out"
                    )


def check_victim(spec: RunSpec, request: VictimRequest, seen: Survey, *, first: bool) -> Victim:
    """Load the victims once on the CPU, so that what does not fit, or is not trusted, is said before any work.

    first: whether this is for a first plan, so that what can never be right is refused.
    """
    if first:
        check_settings(spec, seen.found[0].shape)
    victim = request.load(torch.device("cpu"), seen.found[0].shape.shape)
    if first:
        for each in each_of(victim):
            check_head(spec, each)
            _check_names(spec, each)
    attacked = against(victim, next(iter(spec.attacks.values())))
    second_victim(spec, request, attacked, torch.device("cpu"), seen.found[0].shape.shape, first=first)
    for each in each_of(victim):
        check_labels(spec, each, seen)
    return victim


def _check_names(spec: RunSpec, victim: Victim) -> None:
    """Raise SpecError where the spec names more classes than the victim answers; fewer leave the others without a name."""
    names, judge = class_names(spec.data), victim.scored
    if isinstance(judge, Classifier | Segmenter) and len(names) > judge.classes:
        told = f"{len(names)} classes are named ({', '.join(names)}), and the victim answers {judge.classes}"
        raise SpecError(f"data: {told}: name those alone, in its order")


def second_victim(
    spec: RunSpec, request: VictimRequest, attacked: Victim, device: torch.device, shape: tuple[int, ...], *, first: bool
) -> Victim | None:
    """The second victim on a device; None where the spec has none.

    request: for the spec's victims.  attacked: whose labels the second is asked about.  shape: (C, *spatial) of a stored image.  first: as
    for `check_victim`.  Raises SpecError where it does not fit.
    """
    if spec.second_victim is None:
        return None
    try:
        second = replace(request, settings=spec.second_victim, victims={}).load(device, shape)
        if first:
            check_second(spec, attacked, second)
    except SpecError as error:
        raise SpecError(f"second_victim: {error}") from None
    return second


def check_labels(spec: RunSpec, victim: Victim, seen: Survey) -> None:
    """Raise SpecError where a class in the data is none of the victim's."""
    if spec.data.task == "classification" and not spec.data.unlabelled:
        for item in seen.found:
            try:
                victim.scored.as_label(item.sample.source.label)
            except ValueError as error:
                raise SpecError(f"data.label: {error}") from None


def highest_class(victim: Victim) -> int:
    """The highest class index in a mask that every victim can be held against; 0 where they answer no masks."""
    return min(each.scored.highest if isinstance(each.scored, Segmenter) else 0 for each in each_of(victim))
