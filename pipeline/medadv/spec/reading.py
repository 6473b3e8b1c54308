"""How is a run spec read? YAML into typed settings, with errors that name the key."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from medadv.common.errors import SpecError
from medadv.spec.attack import AttackSettings
from medadv.spec.base import Settings
from medadv.spec.run_spec import RunSpec
from medadv.spec.safe_yaml import read_yaml

MAX_SPEC_BYTES = 1 << 20
SHOWN = 80
"""Characters of a setting that an error repeats."""


def load_spec(path: Path, overrides: list[str] | None = None, expand: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> RunSpec:
    """Read and check a run spec.

    Args:
        path: YAML file.
        overrides: `key=value` settings of the command line, keys dotted, values read as YAML.
        expand: what stands for other settings becomes those, before they are checked.

    Raises:
        SpecError: one line that names the key, quotes the value and suggests what to do.
    """
    try:
        # A pipe would be waited for, and a device read for ever.
        if path.exists() and not path.is_file():
            raise SpecError(f"{path}: no file; a run spec is a YAML file")
        with path.open("rb") as file:
            text = file.read(MAX_SPEC_BYTES + 1)
        if len(text) > MAX_SPEC_BYTES:
            raise SpecError(f"{path}: more than {MAX_SPEC_BYTES} bytes is no run spec")
        data = read_yaml(text.decode())
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8 text'})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        place = f" at line {where.line + 1}" if where else ""
        raise SpecError(f"{path}: not valid YAML{place}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: a run spec is a mapping with the keys {', '.join(RunSpec.model_fields)}")
    for override in overrides or []:
        _override(data, override)
    try:
        return parse_spec(expand(data) if expand else data, str(path))
    except SpecError as error:
        raise SpecError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


def parse_spec(data: dict[str, Any], origin: str) -> RunSpec:
    """Check a run spec given as a mapping; `origin` names it in errors."""
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        raise SpecError(f"{origin}: {_describe(error)}") from None


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    shown = override if len(override) <= SHOWN else f"{override[:SHOWN]}…"
    if not equals or not key:
        raise SpecError(f"--set {shown}: write key=value, such as --set execution.batch_size=4")
    *parents, last = key.split(".")
    place: Any = data
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise SpecError(f"--set {shown}: {parent} holds no settings")
    try:
        place[last] = read_yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SpecError(f"--set {shown}: the value is not valid YAML") from None


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
