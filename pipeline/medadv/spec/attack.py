"""Attack settings in stored units, and the named attacks as settings of one engine.

Sources: FGSM Goodfellow et al. 2015 (arXiv 1412.6572), BIM Kurakin et al. 2017 (1607.02533), PGD Madry et al. 2018 (1706.06083), MI-FGSM
Dong et al. 2018 (1710.06081), TI-FGSM Dong et al. 2019 (1904.02884), DI-FGSM Xie et al. 2019 (1803.06978), NI-FGSM Lin et al. 2020
(1908.06281), SMIA Qi et al. 2021 (2103.05232); for masks alone SegPGD Gu et al. 2022 (2207.12391), CosPGD Agnihotri et al. 2024
(2302.02213). `apgd` (Croce and Hein 2020, 2003.01690), `square` (Andriushchenko et al. 2020, 1912.00049) and `universal` (Shafahi et al.
2020, 1811.11304) are algorithms of their own; `sea` (Croce, Singh, Hein 2023, 2306.12941), for masks, composes the first. `smia` lets the
gradient flow through both branches; `smia-ti` also smooths the gradient, as TI-FGSM does, and `smia-mi-ti` accumulates it too, as MI-FGSM
does.

`smia-listing` follows the authors' public listing (github.com/imogenqi/SMA, SMIA.py). There, each step's sign is also smoothed; the example
before the step, moved by the smoothed step, is classified; that answer is the hard target of the next step, whose loss is
a1 L(f(x), truth) - a2 L(f(x), target). The first step has no such term and nothing is differentiated through the smoothed branch.
Mended here, since as listed it cannot run or does nothing:

- undefined names (model, gt, output_perturbed1);
- clamping without bounds (here: the lattice's range), and no projection onto the epsilon ball;
- a2 = 0 by default (here 0.5);
- a kernel from norm.pdf(-1, x), value and mean swapped, which is no centred Gaussian (here: centred, normalised);
- padding (2, 0) with dilation 2 on a (3, 3, 1) kernel, which shifts and resizes the image (here: reflect padding of half the kernel);
- channels mixed by a missing group count (here: each channel by itself).
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from medadv.spec.base import Name, Settings
from medadv.spec.ensemble import misfit_of_members
from medadv.spec.goal import GoalSetting
from medadv.spec.start import WHY_COLD, Start, as_start
from medadv.spec.universal import LOSS_BOUND, PART, UNIVERSAL, FitSettings, misfit

AttackName = Literal[
    "fgsm", "bim", "pgd", "mifgsm", "tifgsm", "difgsm", "nifgsm", "segpgd", "cospgd", "smia", "smia-ti", "smia-mi-ti", "smia-listing",
    "apgd", "square", "sea", "universal", "ensemble",
]
LossName = Literal["ce", "dice_ce", "dlr", "margin", "segpgd", "cospgd", "masked_ce", "js", "masked_spherical"]
OF_MASKS = ("segpgd", "cospgd", "masked_ce", "js", "masked_spherical")
"""Losses that only segmentation has."""

# Fields that a name fixes unless the spec says otherwise. Weight, kernel and longer steps of the stabilized attacks were chosen by
# measurement: scripts/bench/ATTACKS.md.
STABILIZED = {"random_start": True, "weight": 0.5, "sigma": 1.5, "kernel_size": 5}
SMOOTH_GRADIENT = {"gradient_sigma": 1.0, "gradient_kernel_size": 5}
NAMED: dict[str, dict[str, Any]] = {
    "fgsm": {"steps": 1, "random_start": False},
    "bim": {"random_start": False},
    "pgd": {"random_start": True},
    "mifgsm": {"random_start": False, "momentum": 1.0},
    "tifgsm": {"random_start": False, "momentum": 1.0, "gradient_sigma": 3.0, "gradient_kernel_size": 15},
    "difgsm": {"random_start": False, "diversity": 0.5},
    "nifgsm": {"random_start": False, "momentum": 1.0, "nesterov": True},
    "segpgd": {"random_start": True, "loss": "segpgd", "keep": "best"},
    "cospgd": {"random_start": True, "loss": "cospgd", "keep": "best"},
    "smia": STABILIZED,
    "smia-ti": {**STABILIZED, **SMOOTH_GRADIENT},
    "smia-mi-ti": {**STABILIZED, **SMOOTH_GRADIENT, "momentum": 1.0},
    "smia-listing": {"random_start": False, "weight": 0.5, "smooth": "last_step", "target": "hard", "stop_gradient": True},
    "apgd": {"steps": 100, "random_start": True, "keep": "best"},
    "square": {"steps": 5000, "random_start": True, "loss": "margin", "keep": "best"},
    "sea": {"steps": 100, "random_start": True, "keep": "best"},
    "universal": {"loss_bound": LOSS_BOUND},
    "ensemble": {},
}
UNUSED: dict[str, dict[str, str]] = {
    "apgd": {
        "momentum": "apgd has its own, 0.75",
        "gradient_sigma": "apgd follows the gradient as it is",
        "nesterov": "apgd has momentum of its own",
        "diversity": "apgd compares what its iterates are answered where they are",
    },
    "sea": {
        "momentum": "sea is made of apgd, which has its own, 0.75",
        "gradient_sigma": "sea follows the gradient as it is",
        "nesterov": "sea is made of apgd, which has momentum of its own",
        "diversity": "sea compares what its iterates are answered where they are",
        "loss": "sea has four of its own",
        "keep": "sea keeps the worst answer",
        "target_classes": "sea attacks masks, which are driven towards a class by their goal",
    },
    "square": {
        "weight": "square follows no gradient, of a stabilization term or else",
        "momentum": "square follows no gradient",
        "gradient_sigma": "square follows no gradient",
        "nesterov": "square has no momentum to look ahead along",
        "diversity": "square follows no gradient",
        "keep": "square keeps the best of what it has seen",
    },
}
"""Settings that an algorithm of its own has no use for, and why."""

def in_order(attacks: Mapping[str, "AttackSettings"]) -> list[str]:
    """Names of attacks so that each comes behind the one whose perturbations it starts from.

    Raises ValueError where one starts from none of them, or from itself in the end.
    """
    done: list[str] = []
    left = list(attacks)
    while left:
        ready = [name for name in left if attacks[name].follows in (None, *done)]
        if not ready:
            name = left[0]
            start = attacks[name].start
            why = "leads back to itself" if start in attacks else f"is none of {', '.join(attacks)}"
            raise ValueError(f"attacks.{name}: start={start} {why}")
        done.append(ready[0])
        left.remove(ready[0])
    return done


class AttackSettings(Settings):
    """One attack, every field resolved. Lengths in stored units (HU or 8-bit grey levels)."""

    ADDED: ClassVar[frozenset[str]] = frozenset(
        {
            "keep", "restarts", "start", "members", "goal", "target_classes", "diversity", "nesterov", "fit", "loss_bound", "victim",
            "combine", "ties", "starts", "rank",
        }
    )

    attack: AttackName
    epsilon: float = Field(ge=0, le=4095, description="L-infinity bound, stored units")
    step: float = Field(
        gt=0,
        le=4095,
        description="step size, stored units; left out: half of epsilon for `smia`, `smia-ti` and `smia-mi-ti`, twice epsilon for "
        "`apgd` (before it is halved) and `square` (height of its squares, before they are cut to the ball), a tenth for "
        "`universal`, else a quarter; at least 1",
    )
    steps: int = Field(
        10,
        ge=1,
        le=10_000,
        description="of `square`: queries after the first; of `sea`: on each of its losses; of `universal`: passes over what is fitted, "
        "a step a batch",
    )
    random_start: bool = False
    momentum: float = Field(0.0, ge=0, description="decay of the accumulated gradient; 0 is no momentum")
    gradient_sigma: float | None = Field(None, gt=0, description="Gaussian over the gradient in voxels (translation invariance)")
    gradient_kernel_size: int = Field(15, ge=3, description="odd length of that kernel in voxels")
    nesterov: bool = Field(False, description="take the gradient where the momentum alone would lead (NI-FGSM)")
    diversity: float = Field(
        0.0, ge=0, le=1, description="probability that a step sees the image shrunk by up to a tenth and shifted (DI-FGSM); 0: never"
    )
    loss: LossName = Field(
        "ce",
        description="loss deviation: `ce` for classes and masks, `dice_ce` for masks, `margin` for both, `dlr` for three classes or more "
        "(with fewer, or a sigmoid head, `margin` is taken), the others for masks, voxel by voxel; detectors have their own",
    )
    weight: float = Field(0.0, ge=0, description="weight of the loss stabilization term")
    sigma: float = Field(1.0, gt=0, description="Gaussian of the smoothed branch, in sigma_unit")
    sigma_unit: Literal["voxel", "mm"] = "voxel"
    kernel_size: int = Field(3, ge=3, description="odd length of that kernel, in voxels of the finest axis")
    smooth: Literal["perturbation", "last_step", "image"] = "perturbation"
    target: Literal["soft", "hard"] = "soft"
    stop_gradient: bool = Field(False, description="treat the smoothed branch as a constant target")
    keep: Literal["last", "best"] = Field(
        "last", description="iterate that is stored: the last, or the one whose answer is most wrong by the truth, then of highest loss"
    )
    restarts: int = Field(
        1, ge=1, le=1000, description="random starts, of which the best end (or iterate) is kept; left out: as many as `target_classes`"
    )
    target_classes: int = Field(
        0, ge=0, le=999, description="each start drives towards another of so many wrong classes, likeliest first; 0: away from the truth"
    )
    start: Start | None = Field(
        None, description="another attack of the spec, or of another corpus, whose perturbation takes the place of the first start"
    )
    members: tuple["AttackSettings", ...] | None = Field(
        None, min_length=1, max_length=32, description="ensemble: attacks in order, at its epsilon; of each sample the worst answer is kept"
    )
    ties: Literal["first", "confident", "margin"] = Field(
        "first",
        description="ensemble of a detector: of answers that are as wrong on their image the first is kept, or what costs more average "
        "precision over all images: the largest sum of false scores, or the surest false box farthest above the surest true one",
    )
    starts: Literal["shared", "own"] = Field(
        "shared",
        description="ensemble: every member begins where the ensemble does, or of equal members only the first, and the others at random "
        "starts of their own",
    )
    rank: Literal["score", "labels"] = Field(
        "score",
        description="ensemble of a classifier of several labels: the worst answer is that of the lowest score, or that with the fewest "
        "labels right, and of those the one of the lowest score",
    )
    goal: GoalSetting = Field(
        "untruth",
        description="what the attack is for: any answer but the truth, `vanish` or `fabricate` (foreground or boxes go, or come where "
        "there are none), or `{class: NAME}`, a class's name or index: the answer, all foreground or all true boxes become that class",
    )

    victim: Name | None = Field(None, description="of several `victims`: the one that is attacked, and whose answers are stored")
    combine: Literal["losses"] | None = Field(
        None,
        description="of several `victims`: attack the mean of the losses of all; an attack JOINT is stored as JOINT.VICTIM, once for "
        "the answers of each, unless `victim` says whose",
    )
    fit: FitSettings | None = Field(None, description="universal: samples that the one perturbation for all is fitted to")
    loss_bound: float | None = Field(None, gt=0, description="universal: a sample whose loss is larger says nothing of the step")

    @property
    def alone(self) -> "AttackSettings":
        """What does to one image what this does: itself, or for a universal perturbation PGD by the same settings."""
        return self if self.fit is None else self.model_copy(update={"attack": "pgd", "fit": None, "loss_bound": None})

    @property
    def each(self) -> tuple["AttackSettings", ...]:
        """The attacks that move images: the members of an ensemble, else itself."""
        return self.members or (self,)

    def drawn_as(self, name: str) -> str:
        """Under which name its random starts are drawn: one perturbation is stored for the answers of several victims."""
        return name if self.combine is None else name.removesuffix(f".{self.victim}")

    @property
    def follows(self) -> str | None:
        """The attack of the same spec that it starts from."""
        return self.start if isinstance(self.start, str) else None

    @property
    def warm(self) -> bool:
        """Whether it starts from another corpus."""
        return self.start is not None and self.follows is None

    @property
    def for_masks(self) -> bool:
        """Whether only segmentation has the loss that is raised."""
        return self.attack == "sea" or self.loss in OF_MASKS

    def at(self, epsilon: float, **changes: Any) -> "AttackSettings":
        """The same attack in another ball, from a start of its own. The step grows with a larger ball, so that it is crossed in as many;
        where it is a share of the ball by its algorithm, it shrinks with a smaller one too."""
        values = {**self.model_dump(), "start": None, "epsilon": epsilon, **changes}
        if self.members:
            values["members"] = [member.at(epsilon).model_dump() for member in self.members]
        if epsilon > self.epsilon > 0 or (self.attack in UNUSED and min(epsilon, self.epsilon) > 0):
            values["step"] = self.step * epsilon / self.epsilon
        return AttackSettings.model_validate(values)

    def filled_in(self) -> frozenset[str]:
        """What the attack's name sets."""
        return frozenset(NAMED[self.attack])

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        """Fill in what the attack's name implies, so that a stored setting stands for itself whatever later versions imply."""
        if not isinstance(data, dict) or data.get("attack") not in NAMED:
            return data
        resolved = {**NAMED[data["attack"]], **{key: value for key, value in data.items() if value is not None}}
        resolved["start"] = as_start(resolved.get("start"))
        if isinstance(members := resolved.get("members"), list | tuple):
            resolved["members"] = [{"epsilon": resolved.get("epsilon"), **m} if isinstance(m, dict) else m for m in members]
        if "step" not in resolved and isinstance(resolved.get("epsilon"), int | float) and math.isfinite(resolved["epsilon"]):
            resolved["step"] = max(1.0, _usual_step(data["attack"], float(resolved["epsilon"]), resolved.get("steps")))
        if resolved.get("target_classes") and "restarts" not in resolved:
            resolved["restarts"] = resolved["target_classes"]
        return resolved

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, size in (("kernel_size", self.kernel_size), ("gradient_kernel_size", self.gradient_kernel_size)):
            if size % 2 == 0:
                raise ValueError(f"{name}={size} must be odd, so that the kernel has a centre")
        if why := misfit_of_members(self):
            raise ValueError(why)
        if self.warm and (why := WHY_COLD.get(self.attack)):
            raise ValueError(f"start: another corpus means nothing to {self.attack} ({why}); leave it out")
        if why := misfit(dict(self), {name: field.default for name, field in type(self).model_fields.items()}):
            raise ValueError(why)
        for name, why in UNUSED.get(self.attack, {}).items():
            implied = NAMED[self.attack].get(name, type(self).model_fields[name].default)
            if getattr(self, name) != implied:
                raise ValueError(f"{name}={getattr(self, name)}: {why}: leave {name} out")
        if self.target_classes and self.goal != "untruth":
            raise ValueError(f"target_classes={self.target_classes}: the goal says where to; leave one of both out")
        if self.restarts < self.target_classes:
            raise ValueError(f"restarts={self.restarts} leave some of target_classes={self.target_classes} untried: leave restarts out")
        if self.restarts > max(1, self.target_classes) and not self.random_start and self.attack != "square":
            raise ValueError(f"restarts={self.restarts} end alike without random_start: true")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: true looks ahead along the momentum; set momentum: 1 beside it")
        if self.attack == "fgsm" and self.steps != 1:
            raise ValueError(f"steps={self.steps}: fgsm takes one step; use bim or pgd for more")
        if self.target == "hard" and self.weight >= 1:
            raise ValueError(
                f"target: hard with weight={self.weight:g} cancels the gradient wherever the prediction has not flipped; "
                "take a weight below 1 or target: soft"
            )
        if self.target == "hard" and not self.stop_gradient:
            raise ValueError("target: hard has no gradient to follow; set stop_gradient: true beside it")
        if self.smooth == "last_step" and self.attack in ("apgd", "sea"):
            raise ValueError(f"smooth: last_step smooths a step of fixed length, and {self.attack} has none: take perturbation or image")
        if self.smooth == "last_step" and not self.stop_gradient:
            raise ValueError("smooth: last_step smooths a step already taken, which has no gradient; set stop_gradient: true beside it")
        return self


def _usual_step(attack: str, epsilon: float, steps: Any) -> float:
    """Length of a step where nobody says any: a part of the ball. A single step goes all the way."""
    if attack in UNUSED:
        return 2 * epsilon
    if attack == UNIVERSAL:
        return round(epsilon / PART)
    # The stabilized attack pays twice for each step, so that it takes half as many, of twice the length.
    return epsilon if steps == 1 else round(epsilon / (2 if NAMED[attack].items() >= STABILIZED.items() else 4))
