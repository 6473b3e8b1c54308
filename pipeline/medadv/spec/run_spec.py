"""The whole run spec, and what its parts must agree on."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

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


class RunSpec(Settings):
    """A run spec (YAML). Paths in it are relative to the file it was read from."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"evaluation", "hardening"})

    name: Name
    data: DataSettings
    preprocess: PreprocessSettings = PreprocessSettings()
    victim: VictimSettings
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        rules = MODALITIES[self.data.modality]
        three_d = rules.in_space and self.preprocess.as_ == "volume" and self.data.layout in ("decathlon", "dicom")
        if not rules.in_space and (self.preprocess.spacing or self.preprocess.orientation or self.preprocess.as_ == "slices"):
            others = " and ".join(other.title for other in MODALITIES.values() if other.in_space)
            raise ValueError(f"preprocess: spacing, orientation and as: slices belong to {others}, not to {self.data.modality}")
        if self.data.layout == "decathlon" and self.data.task == "detection" and self.preprocess.as_ == "slices":
            raise ValueError("preprocess.as: slices has no place for boxes in space: leave it out, volumes keep theirs")
        if rules.one_size and self.preprocess.size is None:
            raise ValueError("preprocess.size is missing: colour images have one size per corpus, such as size: [256, 256]")
        normalize = self.victim.normalize
        if not rules.hu_window and isinstance(normalize, NormalizeSettings) and normalize.window is not None:
            raise ValueError("victim.normalize.window is a HU window; 8-bit images take mean and std")
        if not three_d and self.victim.window is not None and len(self.victim.window) not in (2, 3):
            raise ValueError(f"victim.window={list(self.victim.window)} needs two or three lengths")
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
            if why := meaningless(attack.goal, self.data.task, self.victim.head):
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

    def _unfit(self, split: str) -> str | None:
        """Why a split cannot be the one that a universal perturbation is fitted to."""
        attacked = self.data.split
        if attacked is None:
            return "data.split does not say which samples are attacked, and which are left to fit to; give data.split.use"
        if split == attacked.use:
            return "its samples are attacked, and what is fitted must be others"
        return f"data.split.ignore says that {split!r} is no split" if split in attacked.ignore else None
