"""Which corpora does a hardening make? The run specs of training, validation and final images, from the spec of the hardening."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue, ValidationError

from medadv.common.errors import SpecError
from medadv.hardening.flips import flip_axes
from medadv.spec.attack import AttackSettings
from medadv.spec.data import MirrorSettings, SplitSettings
from medadv.spec.evaluation import resolved
from medadv.spec.hardening import HardeningSettings
from medadv.spec.run_spec import RunSpec
from medadv.spec.start import WHY_COLD, CorpusStart

LONGEST_NAME = 100
JUDGED = "final-chosen"


def settings_of(spec: RunSpec, trust_code: bool = True) -> HardeningSettings:
    """The section `hardening`, held against the rest of the spec.  SpecError where no hardening can be made of it."""
    settings = spec.hardening
    if settings is None:
        raise SpecError("hardening is missing: name at least the split that is trained on, such as hardening: {split: train}")
    if settings.foreign and not trust_code:
        key = "command" if settings.bundle is None else "bundle"
        raise SpecError(f"hardening.{key} trains by code that may do anything: look at it, then allow it with --trust-code")
    if settings.bundle is not None and spec.data.task == "detection":
        raise SpecError("hardening.bundle is for classes and masks; detectors of a bundle are trained by hardening.command")
    if spec.data.split is None:
        raise SpecError("data.split is missing: its `use` are the final images, and hardening.split is trained on")
    _check_splits(settings, spec.data.split)
    if spec.data.part is not None:
        raise SpecError("data.part: a hardening takes whole splits, or cuts validation off itself (hardening.validation); leave part out")
    if spec.data.unlabelled:
        raise SpecError("data.label=none: with its own answers as truths a model learns nothing; a hardening needs labels")
    spec.alone("harden")
    if spec.preprocess.mirror is not None:
        raise SpecError("preprocess.mirror: a hardening mirrors its corpora itself, by hardening.flips; leave it out")
    if len(spec.victim.weight_files) != 1:
        raise SpecError(f"victim.weights names {len(spec.victim.weight_files)} files: a hardening trains one network from its weights")
    if fitted := [name for name, attack in spec.attacks.items() if attack.fit is not None]:
        raise SpecError(f"attacks.{fitted[0]}: one perturbation for all images is little to train on; take pgd or smia")
    return settings


def _check_splits(settings: HardeningSettings, split: SplitSettings) -> None:
    """SpecError unless training, validation and final images are three different things."""
    named = {"split": settings.split} | ({"validation": settings.validation_split} if settings.validation_split else {})
    sees = {"split": "training", "validation": "the choice"}
    for key, name in named.items():
        if name == split.use:
            raise SpecError(f"hardening.{key}={name!r}: these are the final images (data.split.use), and {sees[key]} must not see them")
        if name in split.ignore:
            raise SpecError(f"hardening.{key}={name!r}: data.split.ignore says that it is no split")
    if settings.validation == settings.split:
        raise SpecError(f"hardening.validation={settings.split!r} is the split that is trained on; name another, or a share of it")


def largest(spec: RunSpec) -> float:
    """Epsilon that validation is attacked with: the largest of the spec's attacks."""
    return max(attack.epsilon for attack in spec.attacks.values())


def training_spec(spec: RunSpec, generation: int, weights: str | None, before: str | None = None) -> RunSpec:
    """Of the corpus that a generation is trained on.

    weights: those of the moment, relative to the spec; the victim's when None.  before: corpus of the generation before, which attacks
    start from, likewise; at random, or as the spec says, when None.
    """
    settings = settings_of(spec)
    attacks = {name: settings.generation_attack(generation, attack) for name, attack in spec.attacks.items()}
    if before is not None:
        start = CorpusStart(corpus=before)
        attacks = {name: attack.model_copy(update={"start": start}) if can_be_warm(attack) else attack for name, attack in attacks.items()}
    axes = flip_axes(settings.flips, spec.data.modality)
    mirror = MirrorSettings(axes=axes, turn=generation - 1) if axes else None
    return _changed(spec, f"generation-{generation:03d}", weights, attacks, settings.split, "rest", mirror)


def alike_before(spec: RunSpec, generation: int) -> int:
    """The last generation in which every sample was mirrored as in this one, so that perturbations fit; below 1 where there is none."""
    return generation - 2 ** len(flip_axes(settings_of(spec).flips, spec.data.modality))


def begins_warm(spec: RunSpec) -> bool:
    """Whether any attack starts from an earlier corpus, once there is one."""
    return settings_of(spec).warm and any(can_be_warm(attack) for attack in spec.attacks.values())


def can_be_warm(attack: AttackSettings) -> bool:
    """Whether an attack goes on from its perturbations of another corpus. One that the spec starts from another attack does that."""
    return attack.start is None and attack.attack not in WHY_COLD


def validation_spec(spec: RunSpec, generation: int, weights: str | None) -> RunSpec:
    """Of fresh attacks on what chooses: the part of the training split that is held back, or a split of its own."""
    settings = settings_of(spec)
    attacks = fresh(settings.validation_attacks, [largest(spec)])
    return _changed(spec, f"validation-{generation:03d}", weights, attacks, settings.validation_split or settings.split, "cut")


def final_spec(spec: RunSpec, name: str, weights: str | None) -> RunSpec:
    """Of fresh attacks on the final images."""
    settings = settings_of(spec)
    assert spec.data.split is not None
    attacks = fresh(settings.final_attacks, settings.epsilons or [largest(spec)])
    return _changed(spec, f"final-{name}", weights, attacks, spec.data.split.use, None)


def fresh(attacks: Sequence[dict[str, JsonValue]], epsilons: Sequence[float]) -> dict[str, AttackSettings]:
    """Attacks by name, each at every epsilon."""
    found = {}
    for epsilon in sorted(set(epsilons)):
        for number, attack in enumerate(attacks):
            settings = resolved(attack, number, epsilon)
            found[f"{settings.attack}-{number + 1}-{epsilon:g}"] = settings
    return found


def _changed(
    spec: RunSpec,
    suffix: str,
    weights: str | None,
    attacks: Mapping[str, AttackSettings],
    split: str,
    take: str | None,
    mirror: MirrorSettings | None = None,
) -> RunSpec:
    settings = settings_of(spec)
    data = spec.model_dump(mode="json", by_alias=True, exclude={"evaluation", "hardening"})
    data["name"] = f"{spec.name[: LONGEST_NAME - len(suffix) - 1]}-{suffix}"
    data["attacks"] = {name: attack.model_dump(mode="json") for name, attack in attacks.items()}
    data["data"]["split"]["use"] = split
    if mirror is not None:
        data["preprocess"]["mirror"] = mirror.model_dump(mode="json")
    if take is not None and settings.validation_split is None:
        data["data"]["part"] = {"share": settings.validation, "seed": settings.seed, "take": take}
    if weights is not None:
        data["victim"] = {**data["victim"], "weights": weights, "weights_key": None}
    if suffix != JUDGED:
        # How strong the attack is, is asked once: of that on the model that is chosen.
        data["sanity_samples"] = 0
    data["output"] = None
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise SpecError(f"hardening: {first['msg'].removeprefix('Value error, ')}") from None


def beside(path: Path, base: Path) -> str:
    """A path as a spec in the folder `base` names it: both may move together."""
    return os.path.relpath(path, base)
