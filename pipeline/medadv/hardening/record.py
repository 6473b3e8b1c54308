"""What does a hardening say? `hardening.json`, as a typed record."""

from typing import Literal

from pydantic import Field

from medadv.common.record import Closed, Count, Sha256
from medadv.report.record import Figure
from medadv.spec.attack import AttackSettings
from medadv.spec.hardening import HardeningSettings


class Passes(Closed):
    """Passes of a model over one image, there and back."""

    forward: Count = 0
    backward: Count = 0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(forward=self.forward + other.forward, backward=self.backward + other.backward)


class Cost(Closed):
    """What was paid, in passes over images."""

    attacks: Passes = Field(description="that made corpora to train on")
    training: Passes = Field(description="of the hardened model's training; 0 where a program of one's own does it")
    control: Passes = Field(description="of the control's training")
    measuring: Passes = Field(description="of a generation's fresh attacks on its validation images")


class Compared(Closed):
    """The headline metric of a model on validation or final images."""

    clean: Figure
    robust: Figure | None = Field(description="under the fresh attacks, of each image the worst answer; null where nothing was attacked")


class GenerationRecord(Closed):
    """One generation, counted from 1."""

    number: Count
    epsilons: dict[str, float] = Field(description="attack -> its epsilon in this generation's corpus, stored units")
    content_root: Sha256 = Field(description="of the corpus that was trained on")
    samples: Count
    warm: dict[str, Count] = Field(description="attack -> samples that started from their perturbation of the generation before")
    attacked_weights_sha256: Sha256 = Field(description="of the model that the corpus was made against")
    weights_sha256: Sha256 = Field(description="of the model that came out: the average, where weights are averaged")
    losses: list[float] = Field(description="mean training loss of each epoch; empty where a program of one's own trains")
    control_losses: list[float]
    validation: Compared
    control: Compared
    clean_change: Figure = Field(description="clean, less that of the control after as many epochs, paired")
    step: Figure = Field(description="robust, less that of the generation before, paired")
    gain: Figure | None = Field(None, description="robust, less that of the control after all generations, paired; null until then")
    worse: bool = Field(description="whether that interval lies below 0")
    cost: Cost


class Choice(Closed):
    """Which generation was chosen, and why."""

    generation: Count
    why: str
    within_cost: bool = Field(description="whether its clean metric falls no more below the control's than is allowed")


class Three(Closed):
    """The headline metric of three models on the same images."""

    victim: Figure
    control: Figure = Field(description="of the control after as many epochs as the chosen generation")
    chosen: Figure


class FinalAt(Three):
    """Final images under attacks of one epsilon."""

    epsilon: float
    gain: Figure = Field(description="chosen less control, paired")
    attacks: dict[str, dict[str, float | None]] = Field(description="victim, control, chosen -> attack -> the metric of its answers alone")
    classes_answered: Count | None = Field(description="how many classes the chosen model answers under attack")
    above_control: bool = Field(description="whether the chosen model's interval lies above the control's")
    above_ignoring: bool = Field(description="whether it lies above what an answer that ignores the image gets")


class Final(Three):
    """What the chosen model is worth on clean images that nobody looked at before the choice, and under attack."""

    samples: Count
    groups: Count
    left_out: Count = Field(description="images that training saw, too")
    ignoring_image: float | None
    clean_change: Figure = Field(description="clean: chosen less control, paired")
    at: list[FinalAt]


class Hardening(Closed):
    """`hardening.json`. Intervals of 95 % are over groups; what each rests on lies in the measurements beside the corpora."""

    format: Literal["medadv-hardening"] = "medadv-hardening"
    format_version: Literal[1] = 1
    name: str
    task: str
    unit: str = Field(description="of epsilons: hu or level8")
    network: str
    victim_weights_sha256: Sha256
    parameters: Count
    settings: HardeningSettings
    attacks: dict[str, AttackSettings] = Field(description="of the corpora, at their full epsilon")
    metric: str = Field(description="the headline, of every figure")
    training_samples: Count
    validation_samples: Count
    validation_groups: Count
    ignoring_image: float | None = Field(description="the metric of an answer that ignores the validation images")
    victim: Compared
    generations: list[GenerationRecord]
    control: Compared | None = Field(description="the control after as many epochs as all generations have; null until then")
    choice: Choice | None
    final: Final | None = Field(description="null until the choice was made and its images were looked at, once")
    notes: list[str]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.final is not None

    @property
    def left(self) -> int:
        """Generations that are left to make, and one for the final images."""
        return self.settings.generations - len(self.generations) + (not self.finished)
