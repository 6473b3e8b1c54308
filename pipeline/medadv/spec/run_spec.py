"""The whole run spec, and what its parts must agree on."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from medadv.common.errors import SpecError
from medadv.spec.attack import NAMED, AttackSettings, in_order
from medadv.spec.base import Name, Settings
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.evaluation import EvaluationSettings
from medadv.spec.execution import ExecutionSettings
from medadv.spec.goal import meaningless
from medadv.spec.hardening import HardeningSettings
from medadv.spec.modality import MODALITIES
from medadv.spec.normalize import NormalizeSettings
from medadv.spec.start import refuse_planned
from medadv.spec.victim import VictimSettings


def for_each(attacks: Mapping[str, Any], victims: list[str]) -> dict[str, Any]:
    """Attacks as written, those on all victims once for each victim's answers.  Raises ValueError where two have one name."""
    found: dict[str, Any] = {}
    for name, attack in attacks.items():
        joint = isinstance(attack, dict) and attack.get("combine") is not None and attack.get("victim") is None
        parts = {f"{name}.{victim}": {**attack, "victim": victim} for victim in victims} if joint else {name: attack}
        if taken := sorted(parts.keys() & found.keys()):
            raise ValueError(f"attacks.{taken[0]}: is what attacks.{name} is stored as for one of its victims; take another name")
        found |= parts
    return found


class RunSpec(Settings):
    """A run spec (YAML). Paths in it are relative to the file it was read from."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"victims", "evaluation", "hardening"})

    name: Name
    data: DataSettings
    preprocess: PreprocessSettings = PreprocessSettings()
    victim: VictimSettings = Field(description="the model under attack; left out where there are `victims`")
    victims: dict[Name, VictimSettings] = Field(
        default_factory=dict, description="several models of one task, by name, in place of `victim`; every attack says which it attacks"
    )
    second_victim: VictimSettings | None = Field(None, description="another model of the same task, for transfer in `medadv compare`")
    attacks: dict[Name, AttackSettings] = Field(
        min_length=1, description="settings by name; a new corpus has none called `image`, `label`, `region` or `clean`"
    )
    execution: ExecutionSettings = ExecutionSettings()
    sanity_samples: int = Field(
        16, ge=0, le=32, description="samples for the sanity checks in the manifest, never over an eighth of the corpus or 8; 0: none"
    )
    output: str | None = None
    evaluation: EvaluationSettings | None = Field(None, description="what `medadv evaluate` does; a run does not read it")
    hardening: HardeningSettings | None = Field(None, description="what `medadv harden` does; a run does not read it")

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        """The first by name of several victims is `victim` too, for what is asked of one; an attack on all becomes one for each."""
        if not isinstance(data, dict) or not isinstance(victims := data.get("victims"), Mapping) or not victims:
            return data
        # By name: plans keep keys sorted, and are read as they were written.
        first = victims[min(victims)]
        if data.get("victim") not in (None, first):
            raise ValueError("victim and victims are two ways to say what is attacked; give one of both")
        attacks = data.get("attacks")
        return {**data, "victim": first, **({"attacks": for_each(attacks, sorted(victims))} if isinstance(attacks, Mapping) else {})}

    def alone(self, verb: str) -> Self:
        """The spec of one victim. Raises SpecError where there are several, which the verb has no use for."""
        if self.victims:
            raise SpecError(f"victims: `medadv {verb}` asks one model; give it as victim")
        return self

    @property
    def named_victims(self) -> dict[str, VictimSettings]:
        """All victims by the key that names each."""
        return {f"victims.{name}": each for name, each in self.victims.items()} or {"victim": self.victim}

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_victims()
        rules = MODALITIES[self.data.modality]
        three_d = rules.in_space and self.preprocess.as_ == "volume" and self.data.layout in ("decathlon", "dicom")
        if not rules.in_space and (self.preprocess.spacing or self.preprocess.orientation or self.preprocess.as_ == "slices"):
            others = " and ".join(other.title for other in MODALITIES.values() if other.in_space)
            raise ValueError(f"preprocess: spacing, orientation and as: slices belong to {others}, not to {self.data.modality}")
        if self.data.layout == "decathlon" and self.data.task == "detection" and self.preprocess.as_ == "slices":
            raise ValueError("preprocess.as: slices has no place for boxes in space: leave it out, volumes keep theirs")
        if rules.one_size and self.preprocess.size is None:
            raise ValueError("preprocess.size is missing: colour images have one size per corpus, such as size: [256, 256]")
        for key, victim in self.named_victims.items():
            normalize = victim.normalize
            if not rules.hu_window and isinstance(normalize, NormalizeSettings) and normalize.window is not None:
                raise ValueError(f"{key}.normalize.window is a HU window; 8-bit images take mean and std")
            if not three_d and victim.window is not None and len(victim.window) not in (2, 3):
                raise ValueError(f"{key}.window={list(victim.window)} needs two or three lengths")
        in_order(self.attacks)
        refuse_planned((name, attack.start) for name, attack in self.attacks.items())
        for name, attack in self.attacks.items():
            if rules.most_epsilon is not None and attack.epsilon > rules.most_epsilon:
                raise ValueError(
                    f"attacks.{name}: epsilon={attack.epsilon:g} is more than the whole range of {rules.most_epsilon} {rules.unit}"
                )
            if not rules.in_space and any(each.sigma_unit == "mm" for each in attack.each):
                raise ValueError(f"attacks.{name}: sigma_unit=mm needs a voxel spacing, which photographs have none of; take voxel")
            if attack.fit is not None and (wrong := self._unfit(attack.fit.split)):
                raise ValueError(f"attacks.{name}.fit.split={attack.fit.split!r}: {wrong}")
            if why := meaningless(attack.goal, self.data.task, self.victims.get(attack.victim or "", self.victim).head):
                raise ValueError(f"attacks.{name}.goal: {why}")
            for each in attack.each if self.data.task != "segmentation" else ():
                if each.for_masks:
                    by_name = each.attack == "sea" or NAMED[each.attack].get("loss") == each.loss
                    what, instead = (each.attack, "pgd") if by_name else (f"loss={each.loss}", "ce")
                    raise ValueError(f"attacks.{name}: {what} is for masks, and data.task is {self.data.task}; take {instead}")
            if 0 < attack.epsilon < 1:
                raise ValueError(
                    f"attacks.{name}: epsilon={attack.epsilon:g} {rules.unit} is less than one step of the lattice; "
                    f"epsilon counts whole {rules.unit}, so 4/255 is written 4"
                )
        return self

    def _check_victims(self) -> None:
        """Whether every attack says whom it attacks, and the victims can be asked about the same labels."""
        names = ", ".join(self.victims)
        for name, attack in self.attacks.items():
            if not self.victims and (attack.victim or attack.combine):
                raise ValueError(f"attacks.{name}: victim and combine choose among several victims, and there is one; leave them out")
            if self.victims and attack.victim not in self.victims:
                said = "says not which victim it attacks" if attack.victim is None else f"victim={attack.victim} is none of them"
                raise ValueError(f"attacks.{name}: {said}: give victim ({names}), or combine: losses for all")
        if len(self.victims) == 1:
            raise ValueError("victims names one model; give it as victim")
        if self.victims and self.data.unlabelled:
            raise ValueError("data.label is missing: of several victims none says what the truth is; give labels")
        if len({victim.head == "sigmoid" for victim in self.victims.values()}) > 1:
            raise ValueError("victims: labels of a sigmoid head have another form than those of the others; make a corpus for each")
        if self.second_victim is not None and (self.second_victim.head == "sigmoid") != (self.victim.head == "sigmoid"):
            raise ValueError(
                f"second_victim.head={self.second_victim.head}: labels of a sigmoid head have another form than those of the others, and "
                f"victim.head={self.victim.head}; take a second victim of that form, or leave it out"
            )

    def _unfit(self, split: str) -> str | None:
        """Why a split cannot be the one that a universal perturbation is fitted to."""
        attacked = self.data.split
        if attacked is None:
            return "data.split does not say which samples are attacked, and which are left to fit to; give data.split.use"
        if split == attacked.use:
            return "its samples are attacked, and what is fitted must be others"
        return f"data.split.ignore says that {split!r} is no split" if split in attacked.ignore else None
