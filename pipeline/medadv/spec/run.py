"""The whole run spec, and how it is read from a file."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from medadv.errors import SpecError
from medadv.spec.attack import AttackSettings
from medadv.spec.base import Settings
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.victim import VictimSettings

MAX_SPEC_BYTES = 1 << 20
DEFAULT_BATCH = 8
Count = Annotated[int, Field(ge=1)]


class ExecutionSettings(Settings):
    """How the work is cut and computed. Batch size, threads, device kind, precision and seed change bits, so the plan freezes them."""

    batch_size: Count | Literal["auto"] = Field(DEFAULT_BATCH, description="auto: the largest that fits, found while the plan is made")
    shard_size: Count = 64
    workers: Count | Literal["auto"] = "auto"
    threads: Count = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    memory_gib: float | None = Field(None, gt=1, description="of one worker, for batch_size: auto; a share of the machine unless given")
    precision: Literal["fp32", "auto"] = Field(
        "fp32", description="auto: the fastest way to execute whose attacks are as strong, measured while the plan is made"
    )
    codec: Literal["gzip", "szip", "blosc2", "zstd"] = Field(
        "gzip", description="szip: 8-bit images in HDF5's own SZIP, the rest gzip; blosc2 and zstd need hdf5plugin to be read"
    )
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size != "auto" and self.shard_size % self.batch_size:
            raise ValueError(f"shard_size={self.shard_size} must be a multiple of batch_size={self.batch_size}")
        return self

    @property
    def batch(self) -> int:
        """The batch size, or the default one as long as `auto` is not resolved."""
        return DEFAULT_BATCH if self.batch_size == "auto" else self.batch_size


class RunSpec(Settings):
    """A run spec (YAML). Paths in it are relative to the file it was read from."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    data: DataSettings
    preprocess: PreprocessSettings = PreprocessSettings()
    victim: VictimSettings
    second_victim: VictimSettings | None = Field(None, description="another model of the same task, for transfer in `medadv compare`")
    attacks: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")], AttackSettings] = Field(
        min_length=1, description="settings by name; a new corpus has none called `image`, `label`, `region` or `clean`"
    )
    execution: ExecutionSettings = ExecutionSettings()
    sanity_samples: int = Field(
        16, ge=0, le=32, description="samples for the sanity checks in the manifest, never over an eighth of the corpus or 8; 0: none"
    )
    output: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        three_d = self.data.modality == "ct" and self.preprocess.as_ == "volume" and self.data.layout in ("decathlon", "dicom")
        if self.data.modality != "ct" and (self.preprocess.spacing or self.preprocess.orientation or self.preprocess.as_ == "slices"):
            raise ValueError(f"preprocess: spacing, orientation and as: slices belong to CT, not to {self.data.modality}")
        if self.data.modality in ("fundus", "endoscopy") and self.preprocess.size is None:
            raise ValueError("preprocess.size is missing: colour images have one size per corpus, such as size: [256, 256]")
        if self.data.modality in ("fundus", "endoscopy") and self.victim.normalize.window is not None:
            raise ValueError("victim.normalize.window is a HU window; 8-bit images take mean and std")
        if not three_d and self.victim.window is not None and len(self.victim.window) not in (2, 3):
            raise ValueError(f"victim.window={list(self.victim.window)} needs two or three lengths")
        unit = "HU" if self.data.modality == "ct" else "grey levels"
        for name, attack in self.attacks.items():
            if self.data.modality != "ct" and attack.epsilon > 255:
                raise ValueError(f"attacks.{name}: epsilon={attack.epsilon:g} is more than the whole range of 255 {unit}")
            if self.data.modality != "ct" and attack.sigma_unit == "mm":
                raise ValueError(f"attacks.{name}: sigma_unit=mm needs a voxel spacing, which photographs have none of; take voxel")
            if 0 < attack.epsilon < 1:
                raise ValueError(
                    f"attacks.{name}: epsilon={attack.epsilon:g} {unit} is less than one step of the lattice; "
                    f"epsilon counts whole {unit}, so 4/255 is written 4"
                )
        return self


def load_spec(path: Path, overrides: list[str] | None = None) -> RunSpec:
    """Read and check a run spec.

    Args:
        path: YAML file.
        overrides: `key=value` settings of the command line, keys dotted, values read as YAML.

    Raises:
        SpecError: one line that names the key, quotes the value and suggests what to do.
    """
    try:
        size = path.stat().st_size
        text = path.read_text() if size <= MAX_SPEC_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8 text'})") from None
    if size > MAX_SPEC_BYTES:
        raise SpecError(f"{path}: {size} bytes is no run spec")
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        place = f" at line {where.line + 1}" if where else ""
        raise SpecError(f"{path}: not valid YAML{place}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: a run spec is a mapping with the keys {', '.join(RunSpec.model_fields)}")
    for override in overrides or []:
        _override(data, override)
    return parse_spec(data, str(path))


def parse_spec(data: dict[str, Any], origin: str) -> RunSpec:
    """Check a run spec given as a mapping; `origin` names it in errors."""
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        raise SpecError(f"{origin}: {_describe(error)}") from None


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise SpecError(f"--set {override}: write key=value, such as --set execution.batch_size=4")
    *parents, last = key.split(".")
    place: Any = data
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise SpecError(f"--set {override}: {parent} holds no settings")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise SpecError(f"--set {override}: the value is not valid YAML") from None


def _describe(error: ValidationError) -> str:
    """The first problem, with the near key when one was mistyped, and how many more there are."""
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _keys_beside(first["loc"][:-1]), n=1, cutoff=0.6)
        text = f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")
    elif first["type"] == "missing":
        text = f"{key} is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
        value = first.get("input")
        quoted = f"={value!r}" if isinstance(value, str | int | float | bool | list) and len(repr(value)) < 80 else ""
        text = f"{key}{quoted}: {message}" if key else message
    return text + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed where an unknown one stood."""
    model: Any = RunSpec
    for part in location:
        if model is RunSpec and part == "attacks":
            model = {"attacks": AttackSettings}
        elif isinstance(model, dict):
            model = model["attacks"]
        else:
            field = model.model_fields.get(str(part))
            annotation = field.annotation if field else None
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            model = next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), RunSpec)
    if isinstance(model, dict):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]
