"""The published records as typed models: what a corpus's JSON files may hold, checked by `verify` and published as JSON Schemas."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medadv.spec.attack import AttackSettings
from medadv.spec.data import Modality, PreprocessSettings, Task
from medadv.spec.run import RunSpec
from medadv.spec.victim import NormalizeSettings
from medadv_transforms.errors import REASONS

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ShardFile = Annotated[str, Field(pattern=r"^shards/shard-[0-9]{5,}\.h5$")]
# No absolute path and no way out of the corpus, whoever wrote the manifest.
Published = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")]
Code = Annotated[str, Field(json_schema_extra={"enum": sorted(REASONS)})]
Count = Annotated[int, Field(ge=0)]


class Closed(BaseModel):
    """A frozen record that knows all its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Open(BaseModel):
    """A frozen record that may hold more than its named keys."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class QuarantineRecord(Closed):
    """An input that could not be used; a line of quarantine.jsonl, or an entry of a receipt."""

    source: str | None = Field(None, description="keyed hash of the input's path: only the maker finds the file by it")
    sample: str | None = Field(None, description="id of a sample that was planned and lost later")
    code: Code = Field(description="reason code")
    message: str = Field(description="what was found; no header values, no file names")
    advice: str


class Outcome(Closed):
    """What one attack did to one sample, measured on the sample read back from the shard."""

    success: Literal[0, 1]
    linf: Count = Field(description="largest absolute perturbation, stored units")
    l2: float = Field(ge=0, description="Euclidean norm of the perturbation, stored units")
    score_clean: float = Field(description="probability of the truth, Dice, or AP of the image")
    score_adversarial: float


class SampleRecord(Closed):
    """One sample of a shard, in the shard's order."""

    id: str = Field(min_length=1)
    place: tuple[Count, Count] = Field(description="planned batch of the shard, and position in it")
    facts: dict[str, Any] = Field(description="allow-listed facts of the input")
    attacks: dict[str, Outcome]
    hashes: dict[str, Sha256] = Field(description="array -> hash of this sample's part")


class Repeat(Closed):
    """One batch attacked twice."""

    attack: str
    samples: Count
    equal: bool


class Receipt(Closed):
    """`shards/shard-00000.json`: once it exists, the shard is committed."""

    format: Literal["medadv"]
    format_version: Literal[1]
    shard: str
    plan: Sha256
    generation: Count
    samples: Count
    batches: list[list[str | None]] = Field(description="sample ids as planned; an empty place stays empty")
    quarantined: list[QuarantineRecord]
    bytes: Count
    sha256: Sha256 | None = Field(description="of the HDF5 file; null without samples, for then there is none")
    content_root: Sha256
    arrays: dict[str, Sha256] = Field(description="array -> hash of its type, shape and values")
    records: list[SampleRecord]
    repeat: Repeat | None = None
    extents: dict[str, list[tuple[int | None, Count, Count, Count]]] = Field(
        default_factory=dict, description="array -> sample index, offset, bytes and CRC-32 of each stored piece"
    )


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
    threshold: int | None = Field(None, description="mask pictures: levels above it are 1, the others 0")
    mask_geometry: Literal["affine", "voxels"] = "affine"
    offset: int | None = Field(None, description="added to CT integers without a rescale, HU")
    mask_255: Literal["foreground", "ignore"] | None = Field(None, description="what 255 means in mask pictures without a label map")


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
    codec: Literal["gzip", "szip", "blosc2", "zstd"]
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


SCHEMAS: dict[str, type[BaseModel]] = {
    "manifest": Manifest,
    "receipt": Receipt,
    "quarantine-record": QuarantineRecord,
    "run-spec": RunSpec,
}
"""File name in manifests/schema/ -> model."""


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one of SCHEMAS."""
    schema = SCHEMAS[name].model_json_schema(by_alias=True, mode="validation")
    _close(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"medadv/{name}.schema.json", **schema}


def _close(schema: Any) -> None:
    """Mappings whose keys have a pattern take no other keys: the models refuse them, but pydantic leaves that out of the schema."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)


def shape_problem(model: type[BaseModel], data: Any) -> str | None:
    """Why a decoded JSON value is no such record, in one line; None when it is."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        first, *more = error.errors(include_url=False, include_context=False, include_input=False)
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        return f"{where}: {first['msg']}" + (f" (and {len(more)} more)" if more else "")
    return None
