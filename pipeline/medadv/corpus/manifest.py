"""What does a corpus say of itself? `manifest.json`, as a typed record, and how it is read and written."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from medadv.common.errors import IntegrityError
from medadv.common.files import write_file
from medadv.common.hashing import hash_bytes
from medadv.corpus.folder import Workspace
from medadv.corpus.receipt import Repeat
from medadv.corpus.record import Closed, Count, Open, Published, Sha256, ShardFile
from medadv.spec.attack import AttackSettings
from medadv.spec.data import Modality, PreprocessSettings, Task
from medadv.spec.execution import Codec
from medadv.spec.victim import NormalizeSettings
from medadv.store.layout import FORMAT


class ShardEntry(Closed):
    """A shard file in the manifest."""

    path: ShardFile
    bytes: Count
    sha256: Sha256
    receipt_sha256: Sha256
    samples: Annotated[int, Field(ge=1)]
    content_root: Sha256
    generation: Count


class Generation(Closed):
    """What one run planned; the corpus's content root follows from the order of its generations."""

    plan: Sha256
    shards: Count
    samples: Count
    replaces: list[Count] = Field(default_factory=list, description="earlier shards that it stands for, since a patient was forgotten")


class DataFacts(Closed):
    """Where the samples come from, as far as that is public."""

    modality: Modality
    task: Task
    unit: Literal["hu", "level8"]
    label: Literal["given", "prediction"]
    label_map: dict[str, list[int]] | None
    classes: list[str] | None
    licence: str | None
    split: str | None


class VictimFacts(Closed):
    """The model under attack: with its weights, enough to load it again."""

    network: str
    arguments: dict[str, Any]
    head: Literal["softmax", "sigmoid"]
    normalize: NormalizeSettings
    window: tuple[int, ...] | None
    overlap: float
    window_mode: Literal["constant", "gaussian"]
    window_batch: int
    score_threshold: float
    weights_sha256: Sha256
    program_sha256: Sha256 | None
    parameters: Count


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


class ExecutionFacts(Open):
    """Settings that decide bits."""

    batch_size: int
    shard_size: int
    threads: int
    device: Literal["cpu", "cuda"]
    precision: str
    profile: ProfileFacts | None = None
    codec: Codec
    seed: int


class Metrics(Closed):
    """Corpus metric of one attack, on re-read samples."""

    metric: str
    clean: float | None
    adversarial: float | None
    all: dict[str, dict[str, float | None]]
    success: float


class Rung(Closed):
    """Success of the first attack with another epsilon or number of steps."""

    epsilon: float | None = None
    steps: int | None = None
    success: float


class Sanity(Open):
    """Checks of the attack on a few stored samples (after arXiv 1902.06705); they warn and fail nothing."""

    samples: Count
    sample_ids: list[str]
    warnings: list[str]
    attack: str | None = None
    epsilon_ladder: list[Rung] | None = None
    steps_ladder: list[Rung] | None = None


class Determinism(Open):
    """How far a repetition reaches."""

    level: Literal["bitwise", "tolerance"]
    repeated: list[Repeat]
    holds_for: str


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
    name: str
    content_root: Sha256
    samples: Count
    quarantined: Count
    shards: list[ShardEntry]
    files: dict[Published, Sha256] = Field(description="other published files that must not change")
    generations: list[Generation]
    data: DataFacts
    preprocess: PreprocessSettings
    victim: VictimFacts
    attacks: dict[str, AttackSettings]
    execution: ExecutionFacts
    tuning: list[TuningRecord] = Field(default_factory=list)
    metrics: dict[str, Metrics]
    sanity: Sanity | None = None
    determinism: Determinism
    environment: dict[str, Any]
    tool: dict[str, Any]
    privacy: dict[str, Any]
    run: RunFacts


def read_manifest(workspace: Workspace) -> dict[str, Any]:
    """The manifest as written. IntegrityError where it cannot be read."""
    try:
        manifest = json.loads(workspace.manifest.read_bytes())
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError
    except (OSError, ValueError):
        raise IntegrityError(f"{workspace.manifest}: cannot be read as a manifest") from None
    return manifest


def write_manifest(workspace: Workspace, manifest: dict[str, Any]) -> None:
    """Write the manifest, readable by people, then its hash."""
    data = (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
    write_file(workspace.manifest, data)
    write_file(workspace.manifest.with_name("manifest.json.sha256"), f"{hash_bytes(data)}  manifest.json\n".encode())
