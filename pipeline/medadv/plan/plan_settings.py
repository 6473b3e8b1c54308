"""What decides bits? The settings that a plan froze and the manifest publishes, resolved, as typed records."""

from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, Field, PlainSerializer

from medadv.common.record import Closed, Count, Open, Sha256
from medadv.spec.attack import AttackSettings
from medadv.spec.base import Name
from medadv.spec.data import PreprocessSettings, Task
from medadv.spec.execution import MOST_THREADS, Codec
from medadv.spec.modality import Modality
from medadv.spec.normalize import Normalization
from medadv.spec.start import refuse_folders


class DataFacts(Closed):
    """Where the samples come from, as far as that is public. Keys with a default came later: they are written where they say something."""

    modality: Modality
    task: Task
    unit: Literal["hu", "level8"]
    label: Literal["given", "prediction"]
    label_map: dict[str, list[int]] | None
    classes: list[str] | None
    licence: str | None
    split: str | None
    threshold: int | None = Field(None, description="mask pictures: levels above it are 1, the others 0")
    mask_geometry: Literal["affine", "voxels"] = "affine"
    offset: int | None = Field(None, description="added to CT integers without a rescale, HU")
    mask_255: Literal["foreground", "ignore"] | None = Field(None, description="what 255 means in mask pictures without a label map")
    strata: list[str] | None = Field(None, description="by what else samples are told apart; each one's values are in its receipt's facts")

    @property
    def x_first(self) -> bool:
        """Whether images are stored (C, x, y[, z]), as CT grids are; pictures have y first."""
        return self.unit == "hu"


class MemberFacts(Closed):
    """One of several networks of one architecture that answer together."""

    weights_sha256: Sha256


class VictimFacts(Closed):
    """The model under attack: with its weights, enough to load it again."""

    network: str
    arguments: dict[str, Any]
    head: Literal["softmax", "sigmoid", "binary"]
    normalize: Normalization
    window: tuple[int, ...] | None
    overlap: float
    window_mode: Literal["constant", "gaussian"]
    window_batch: int
    score_threshold: float
    weights_sha256: Sha256
    program_sha256: Sha256 | None
    parameters: Count
    weights_key: str | None = None
    output: int | str | None = None
    combine: Literal["logits"] = "logits"
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    window_padding: Literal["constant", "replicate"] = "constant"
    window_places: Literal["monai", "nnunet"] = "monai"
    mirror: tuple[int, ...] | None = None
    slicewise: bool = False
    members: list[MemberFacts] | None = Field(None, description="every member, the first included; none where there is one")
    code_sha256: Sha256 | None = Field(None, description="of the source of a python: factory and of what it imports from beside it")

    @property
    def hashes(self) -> list[str]:
        """Of the weights of every member."""
        return [member.weights_sha256 for member in self.members or ()] or [self.weights_sha256]


class ProfileFacts(Closed):
    """How the victim is executed while it is attacked; it is scored in fp32 whatever this says."""

    channels_last: bool
    folded: bool
    bf16: bool
    int8: bool = False
    compiled: str | None


class TuningRecord(Closed):
    """One execution profile tried on a planned batch while the plan was made."""

    profile: str
    seconds_per_step: float | None
    success: float | None
    verdict: str


class UniversalFacts(Closed):
    """The one perturbation of an attack, fitted before its plan was frozen. Passes are of the victim, per fitted sample."""

    perturbation_sha256: Sha256 = Field(description="of the array in attacks/NAME.h5, as arrays are hashed in receipts")
    samples: Count = Field(description="that it was fitted to; none of them is attacked")
    forward_passes: Count
    backward_passes: Count


class ExecutionFacts(Open):
    """Settings that decide bits."""

    batch_size: int
    shard_size: int
    threads: int = Field(ge=1, le=MOST_THREADS)
    device: Literal["cpu", "cuda"]
    precision: str
    profile: ProfileFacts | None = None
    codec: Codec
    seed: int


def _whole(attacks: dict[str, AttackSettings]) -> Any:
    """Every field of every attack: a frozen setting stands for itself, whatever its name implies in later versions."""
    return {name: settings.model_dump(mode="json") for name, settings in attacks.items()}


def _without_folders(attacks: dict[str, AttackSettings]) -> dict[str, AttackSettings]:
    refuse_folders((name, settings.start) for name, settings in attacks.items())
    return attacks


FrozenAttacks = Annotated[dict[Name, AttackSettings], AfterValidator(_without_folders), PlainSerializer(_whole)]


class PlanSettings(Open):
    """Everything public that a corpus's content follows from, apart from the samples themselves. No paths."""

    meaning: int
    name: str
    data: DataFacts
    preprocess: PreprocessSettings
    victim: VictimFacts
    victims: dict[Name, VictimFacts] = Field(
        default_factory=dict, description="all by name, where there are several, of which `victim` is the first by name"
    )
    attacks: FrozenAttacks
    execution: ExecutionFacts
    universal: dict[Name, UniversalFacts] = Field(default_factory=dict, description="by the name of the attack; only where there is one")


class Attacked(Protocol):
    """A record of attacks and victims: the settings of a plan, or a manifest."""

    @property
    def victim(self) -> VictimFacts: ...
    @property
    def victims(self) -> dict[str, VictimFacts]: ...
    @property
    def attacks(self) -> dict[str, AttackSettings]: ...


def facts_of(record: Attacked, attack: AttackSettings) -> VictimFacts:
    """The victim whose answers an attack's results are."""
    return record.victim if attack.victim is None else record.victims[attack.victim]


def thresholds(record: Attacked) -> dict[str, float]:
    """By attack, the score from which its victim's detections count."""
    return {name: facts_of(record, attack).score_threshold for name, attack in record.attacks.items()}
