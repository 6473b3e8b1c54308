"""What does a corpus say of itself? `manifest.json`, as a typed record, and how it is read and written."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from medadv.common.errors import IntegrityError
from medadv.common.files import write_file
from medadv.common.hashing import hash_bytes
from medadv.common.record import Closed, Count, Open, RecordError, Sha256, parse, plain
from medadv.corpus.folder import Workspace
from medadv.corpus.receipt import Receipt, Repeat, load_receipt
from medadv.plan.plan_settings import DataFacts, ExecutionFacts, FrozenAttacks, TuningRecord, UniversalFacts, VictimFacts
from medadv.spec.base import Name
from medadv.spec.data import PreprocessSettings
from medadv.spec.normalize import hu_window

ShardFile = Annotated[str, Field(pattern=r"^shards/shard-[0-9]{5,}\.h5$")]
# No absolute path and no way out of the corpus, whoever wrote the manifest.
Published = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")]


class ShardEntry(Closed):
    """A shard file in the manifest."""

    path: ShardFile
    bytes: Count
    sha256: Sha256
    receipt_sha256: Sha256
    samples: Annotated[int, Field(ge=1)]
    content_root: Sha256
    generation: Count

    @property
    def receipt_path(self) -> str:
        """Published name of the shard's receipt."""
        return self.path.removesuffix(".h5") + ".json"

    def receipt(self, root: Path) -> tuple[Receipt | None, str | None]:
        """The receipt in a corpus's folder, if it is as committed, or None and what is wrong with it."""
        return load_receipt(root / self.receipt_path, self.receipt_sha256)


class Generation(Closed):
    """What one run planned; the corpus's content root follows from the order of its generations."""

    plan: Sha256
    shards: Count
    samples: Count
    replaces: list[Count] = Field(default_factory=list, description="earlier shards that it stands for, since a patient was forgotten")


class Metrics(Closed):
    """Corpus metric of one attack, on re-read samples."""

    metric: str
    clean: float | None
    adversarial: float | None
    all: dict[str, dict[str, float | None]]
    success: float | None = Field(description="share of the attackable samples; null where there are none")
    attackable: Count | None = Field(
        None, description="samples whose clean answer was right enough to be attacked; without it, success counts over all samples"
    )
    goal: str | None = Field(None, description="what success means, where it is not an answer that is no longer the truth")


class StartFacts(Closed):
    """Where the samples of an attack began that starts from another corpus."""

    content_root: Sha256 = Field(description="of the other corpus")
    attack: Name = Field(description="whose perturbations there")
    warm: Count = Field(description="samples that began at their perturbation there")
    cold: Count = Field(description="samples that it holds not, or as another image: they began as the attack would without")


class Baseline(Closed):
    """The clean metric beside that of an answer that ignores the image: where it is no better, the victim cannot be right."""

    metric: str
    clean: float | None
    ignoring_image: float | None = Field(description="null where nothing is known: no truth, or a single mask")
    answer: str = Field(description="what ignores the image, in words")
    warning: str | None


class Rung(Closed):
    """Success of the first attack with another epsilon or number of steps."""

    epsilon: float | None = None
    steps: int | None = None
    success: float


class Against(Closed):
    """Success of something weaker beside that of the attack itself."""

    success: float
    white_box: float


class WorstCase(Closed):
    """Success of the best of several attacks for each sample."""

    success: float
    attacks: list[str]


class SanityReport(Open):
    """Checks of the attack on a few stored samples (after arXiv 1902.06705); they warn and fail nothing."""

    samples: Count
    sample_ids: list[str]
    warnings: list[str]
    attack: str | None = None
    epsilon_ladder: list[Rung] | None = None
    steps_ladder: list[Rung] | None = None
    epsilon_zero_is_identity: bool | None = None
    huge_epsilon: Rung | None = None
    noise: Against | None = None
    transfer: Against | None = None
    zero_gradients: float | None = None
    clamped: float | None = Field(None, description="share of the victim's probabilities that are 0 or 1, where no gradient passes")
    worst_case: WorstCase | None = None


class Determinism(Open):
    """How far a repetition reaches."""

    level: Literal["bitwise", "tolerance"]
    repeated: list[Repeat]
    holds_for: str


class EnvironmentFacts(Open):
    """What a corpus was made with: versions and hardware, no host name, user or path."""

    python: str | None = None
    system: str | None = None
    machine: str | None = None
    processor: str | None = None
    packages: dict[str, str | None] = Field(default_factory=dict)
    cuda: str | None = None
    gpu: str | None = None
    cpu_capability: str | None = None


class ToolFacts(Open):
    """Which medadv wrote the manifest; the commit when it ran from a checkout."""

    name: str | None = None
    version: str | None = None
    commit: str | None = None


class PrivacyFacts(Open):
    """How ids were made, in words, and which key hashed the groups: corpora made with one key have comparable group ids."""

    group_id: str | None = None
    sample_id: str | None = None
    source_paths: str | None = None
    group_key_id: str | None = None


class RunFacts(Open):
    """The run that wrote the manifest."""

    command: str
    started: str
    finished: str
    status: Literal["complete", "partial"]
    shards_missing: Count


class Manifest(Open):
    """`manifest.json`: the corpus's record."""

    format: Literal["medadv"]
    format_version: Literal[1]
    name: Name
    content_root: Sha256
    samples: Count
    quarantined: Count
    shards: list[ShardEntry]
    files: dict[Published, Sha256] = Field(description="other published files that must not change")
    generations: list[Generation]
    data: DataFacts
    preprocess: PreprocessSettings
    victim: VictimFacts
    victims: dict[Name, VictimFacts] = Field(default_factory=dict, description="all by name, where there are several")
    attacks: FrozenAttacks
    universal: dict[Name, UniversalFacts] = Field(default_factory=dict, description="of universal perturbations, by the attack's name")
    starts: dict[Name, StartFacts] = Field(default_factory=dict, description="of attacks that start from another corpus, by their names")
    execution: ExecutionFacts
    tuning: list[TuningRecord] = Field(default_factory=list)
    metrics: dict[str, Metrics]
    baseline: Baseline | None = None
    sanity: SanityReport | None = None
    determinism: Determinism
    environment: EnvironmentFacts
    tool: ToolFacts
    privacy: PrivacyFacts
    run: RunFacts

    @property
    def x_first(self) -> bool:
        """Whether the victim was shown images (C, x, y[, z]), which says how its boxes count axes."""
        # Before there was a baseline a HU window decided, also for 8-bit pictures: such a corpus is reproduced as it was made.
        return self.data.x_first if "baseline" in self.model_fields_set else hu_window(self.victim.normalize) is not None


def read_manifest(workspace: Workspace) -> Manifest:
    """The manifest as written. IntegrityError where it cannot be read."""
    try:
        return parse(Manifest, workspace.manifest.read_bytes())
    except (OSError, RecordError):
        raise IntegrityError(f"{workspace.manifest}: cannot be read as a manifest") from None


def manifest_bytes(manifest: Manifest) -> bytes:
    """The file's content, readable by people."""
    return (json.dumps(plain(manifest), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_manifest(workspace: Workspace, manifest: Manifest) -> None:
    """Write the manifest, then its hash."""
    data = manifest_bytes(manifest)
    write_file(workspace.manifest, data)
    write_file(workspace.manifest_hash, f"{hash_bytes(data)}  manifest.json\n".encode())
