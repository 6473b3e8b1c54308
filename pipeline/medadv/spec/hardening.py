"""How is a victim hardened? Generations of corpora and of training on them, and how one of them is chosen: `medadv harden`."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from medadv.spec.attack import AttackSettings
from medadv.spec.base import Count, Settings
from medadv.spec.evaluation import resolved

PGD: dict[str, JsonValue] = {"attack": "pgd", "steps": 20}
SMIA: dict[str, JsonValue] = {"attack": "smia", "steps": 20}

PLACES = ("{corpus}", "{weights}", "{out}", "{mode}")
"""What a program of one's own has to be told; `{epochs}`, `{seed}` and `{generation}` it may be."""


OF_THE_LOOP = ("optimizer", "rate", "weight_decay", "batch_size", "read", "loss", "beta", "batch_norm", "averaging", "threads")
"""Settings of the built-in loop alone: what a program or a bundle trains by stands in it."""


class BundleSettings(Settings):
    """A MONAI bundle that trains in place of the built-in loop, and what things are called in its configuration."""

    path: str = Field(min_length=1, description="the bundle's folder, relative to the spec")
    configuration: str = Field("train", min_length=1, description="file in its configs")
    run: str | None = Field(None, description="run id; `run`, else `training`, when left out")
    network: str = Field("network", description="id of the network that is trained")
    train_data: str = Field("train#dataset#data", description="id of the list that training reads")
    validation_data: str = Field("validate#dataset#data", description="id of the list that its validation reads, where it has one")
    epochs: str | None = Field(None, description="id of how many epochs there are; left out: `epochs`, else `train#trainer#max_epochs`")
    folders: list[str] = Field(["ckpt_dir", "output_dir"], description="ids of folders that it writes to; those that it has")
    image: str = Field("image", description="key of an item's image")
    label: str = Field("label", description="key of its class or mask")


class HardeningSettings(Settings):
    """What `medadv harden` does. The spec's own split is that of the final images; `split` names the one that is trained on."""

    split: str = Field(min_length=1, description="value of data.split that is trained on; data.split.use are the final images")
    generations: Count = Field(10, le=1000, description="corpora that are made, each against the model of the moment")
    epochs: Count = Field(2, le=1000, description="epochs of training on each corpus")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd: with a momentum of 0.9 (Nesterov)")
    rate: float = Field(1e-4, gt=0, le=10, description="learning rate, the same throughout")
    weight_decay: float = Field(0.0, ge=0, le=1)
    batch_size: Count = Field(16, description="images a training step")
    share: float = Field(1.0, gt=0, le=1, description="share of the samples that training sees attacked; the rest it sees clean")
    read: Literal["newest", "all"] = Field("newest", description="corpora that training reads: the newest, or of each sample any so far")
    keep: Literal["newest", "all"] = Field(
        "newest",
        description="corpora whose shards are kept (newest: those that attacks still start from, too); of the others the manifest stays",
    )
    warm: bool = Field(True, description="each sample's attack starts from its perturbation of the generation before, where an attack can")
    loss: Literal["adversarial", "trades"] = Field(
        "adversarial", description="the task's loss on attacked images, or on clean ones plus beta times the divergence of both answers"
    )
    beta: float = Field(6.0, gt=0, le=1000, description="weight of the divergence, for `trades`")
    epsilon: Literal["rising", "full"] = Field(
        "rising", description="of the attacks over generations: rising in whole units over the first half, or that of the spec throughout"
    )
    batch_norm: Literal["on", "frozen"] = Field(
        "on",
        description="frozen: its statistics stay those of the victim, as those of detectors of two stages always do, which tell their "
        "losses image by image",
    )
    averaging: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of the weights a step; 0: no average")
    flips: tuple[Annotated[int, Field(ge=0, le=2)], ...] | Literal["auto", "none"] = Field(
        "auto",
        description="spatial axes of the stored image that corpora are mirrored along before they are attacked, each sample in another way "
        "every generation; auto: both of pictures, none of CT",
    )
    command: list[str] | None = Field(
        None,
        min_length=1,
        description="program that trains in place of the built-in loop, as arguments with {corpus}, {weights}, {out} and {mode} in them; "
        "needs --trust-code",
    )
    bundle: BundleSettings | None = Field(None, description="a MONAI bundle that trains in place of the built-in loop; needs --trust-code")
    validation: float | str = Field(
        0.2,
        description="what chooses: a share (above 0, below 1) of the training split's groups, cut off whole, by seed; or a split by name, "
        "best one that the victim was not trained on",
    )
    validation_attacks: list[dict[str, JsonValue]] = Field(
        [PGD], min_length=1, max_length=8, description="fresh attacks on validation, without `epsilon`; an image's worst answer counts"
    )
    final_attacks: list[dict[str, JsonValue]] = Field(
        [PGD, SMIA], min_length=1, max_length=8, description="fresh attacks on the final images, without `epsilon`"
    )
    epsilons: list[Annotated[float, Field(ge=1, le=4095)]] | None = Field(
        None, min_length=1, max_length=8, description="of the attacks on final images; left out: the largest of the spec's attacks"
    )
    clean_cost: float = Field(0.05, ge=0, le=1, description="what the metric on clean validation images may fall below the control's")
    threads: Count | None = Field(None, le=1024, description="that a training step computes with; left out: execution.threads")
    seed: int = Field(0, ge=0, description="of the cut and of the order of training")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.validation == "" if isinstance(self.validation, str) else not 0 < self.validation < 1:
            raise ValueError(f"validation={self.validation} must be a share above 0 and below 1, or the name of a split")
        if self.read == "all" and self.keep != "all":
            raise ValueError("read: all trains on every corpus so far, which keep: newest throws away; set keep: all beside it")
        if self.loss == "trades" and self.share != 1:
            raise ValueError(f"share={self.share:g}: trades sees each image clean and attacked; leave share out")
        if self.loss != "trades" and self.beta != type(self).model_fields["beta"].default:
            raise ValueError("beta weighs the divergence of loss: trades; leave it out")
        if isinstance(self.flips, tuple) and len(set(self.flips)) != len(self.flips):
            raise ValueError("flips names an axis twice")
        if self.command is not None:
            if missing := [place for place in PLACES if not any(place in argument for argument in self.command)]:
                raise ValueError(f"command says nowhere {missing[0]}: a program is told {', '.join(PLACES)}")
            if self.read == "all":
                raise ValueError("read: all is for the built-in loop; a program reads what it is told, the newest corpus")
            if self.loss != "adversarial" or self.share != 1:
                key = "share" if self.loss == "adversarial" else "loss"
                raise ValueError(f"{key} is for the built-in loop; a program has its own and would not be told of it: leave it out")
        if self.bundle is not None and self.command is not None:
            raise ValueError("command and bundle are two trainers; name one")
        if self.bundle is not None and (self.loss != "adversarial" or self.read == "all" or self.share not in (0.5, 1)):
            raise ValueError("a bundle has a loss of its own and reads the newest corpus: share is 1 (attacked) or 0.5 (each image twice)")
        for key in ("validation_attacks", "final_attacks"):
            for number, attack in enumerate(getattr(self, key)):
                if "epsilon" in attack:
                    raise ValueError(f"{key}[{number}]: the epsilon is that of the spec's attacks or of epsilons: leave it out")
                try:
                    resolved(attack, number, 1)
                except ValueError as error:
                    raise ValueError(str(error).replace("attacks[", f"{key}[", 1)) from None
        return self

    @property
    def validation_split(self) -> str | None:
        """The split that chooses; None where a share of the training split does."""
        return self.validation if isinstance(self.validation, str) else None

    @property
    def averages(self) -> bool:
        """Whether what comes out of a generation is an average, beside the weights in training."""
        return self.averaging > 0 and not self.foreign

    @property
    def foreign(self) -> bool:
        """Whether something else than the built-in loop trains."""
        return self.command is not None or self.bundle is not None

    def generation_epsilon(self, generation: int, full: float) -> float:
        """Of an attack in a generation, counted from 1.  full: its own. In whole units, since the lattice has nothing between them."""
        if self.epsilon == "full" or full <= 1:
            return full
        part = min(1.0, 2 * generation / self.generations)
        # Rounded up, it may lie above an epsilon that is no whole number.
        return full if part == 1 else min(full, float(max(1, round(full * part))))

    def generation_attack(self, generation: int, attack: AttackSettings) -> AttackSettings:
        """An attack as a generation has it. In a smaller ball its steps are shorter, down to one unit."""
        epsilon = self.generation_epsilon(generation, attack.epsilon)
        if epsilon == attack.epsilon:
            return attack
        smaller = attack.at(epsilon, start=attack.start)
        return smaller.model_copy(update={"step": max(1.0, attack.step * epsilon / attack.epsilon)})
