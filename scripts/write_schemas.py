#!/usr/bin/env python3
"""Write what follows from the code: the JSON Schemas, and the tables of manifests/*.md. scripts/write_schemas.py [MANIFESTS]"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from medadv.corpus.schema import SCHEMAS, Published, json_schema
from medadv.hardening.measuring import Measurement
from medadv.hardening.record import Hardening
from medadv.spec.attack import NAMED, AttackSettings
from medadv.spec.base import Settings
from medadv.spec.data import DataSettings, PartSettings, PreprocessSettings, SplitSettings
from medadv.spec.evaluation import EvaluationSettings
from medadv.spec.execution import ExecutionSettings
from medadv.spec.goal import ClassGoal
from medadv.spec.hardening import BundleSettings, HardeningSettings
from medadv.spec.normalize import STEPS, NormalizeSettings
from medadv.spec.run_spec import RunSpec
from medadv.spec.start import CorpusStart
from medadv.spec.universal import FitSettings
from medadv.spec.victim import VictimSettings
from medadv_transforms.errors import REASONS_AND_ADVICE

PARTS: dict[str, type[Settings]] = {
    "top level": RunSpec,
    "data": DataSettings,
    "data.split": SplitSettings,
    "data.part": PartSettings,
    "preprocess": PreprocessSettings,
    "victim": VictimSettings,
    "victim.normalize": NormalizeSettings,
    "attacks.NAME": AttackSettings,
    "attacks.NAME.start": CorpusStart,
    "attacks.NAME.goal": ClassGoal,
    "attacks.NAME.fit": FitSettings,
    "execution": ExecutionSettings,
    "evaluation": EvaluationSettings,
    "hardening": HardeningSettings,
    "hardening.bundle": BundleSettings,
}
ALL = {**SCHEMAS, "hardening": Published(Hardening, 1), "measurement": Published(Measurement, 1)}
"""Records of corpora, and those that stand beside them."""


def schemas() -> dict[str, str]:
    """File name in manifests/schema/ -> content."""
    made = {published.file(name): json_schema(name, published) for name, published in ALL.items()}
    return {file: json.dumps(schema, indent=1, sort_keys=True) + "\n" for file, schema in made.items()}


def reasons() -> str:
    """The reason codes as a table."""
    rows = [f"| `{code}` | {reason.meaning} | {reason.advice} |" for code, reason in REASONS_AND_ADVICE.items()]
    return "\n".join(["| code | meaning | what to do |", "|---|---|---|", *rows])


def reference() -> str:
    """Every key of a run spec as tables."""
    tables = {title: _table(model) for title, model in PARTS.items()}
    tables["victim.normalize"] += f"\n\nOr a list of steps, each a mapping with one of these keys:\n\n{_steps()}"
    tables["attacks.NAME"] += f"\n\nWhat an attack's name sets, unless the spec says otherwise:\n\n{_names()}"
    return "\n\n".join(f"**{title}**\n\n{table}" for title, table in tables.items())


def filled(text: str) -> str:
    """A document with its generated parts made anew."""
    for name, content in (("run spec", reference()), ("reasons", reasons())):
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text = marks.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    return text


def _table(model: type[Settings]) -> str:
    schema = model.model_json_schema(by_alias=True)
    # A model that holds others of its kind stands among the definitions.
    properties = schema.get("$defs", {}).get(model.__name__, schema)["properties"] if "$ref" in schema else schema["properties"]
    rows = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        rows.append(f"| `{key}` | {_kind(properties[key])} | {default} | {field.description or ''} |")
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])


def _names() -> str:
    rows = [f"| `{name}` | {', '.join(f'`{key}: {json.dumps(value)}`' for key, value in fixed.items())} |" for name, fixed in NAMED.items()]
    return "\n".join(["| attack | settings |", "|---|---|", *rows])


def _steps() -> str:
    """Every step of an input pipeline; its options with their kinds."""
    rows = []
    for name, model in STEPS.items():
        properties = model.model_json_schema()["properties"]
        beside = [f"`{key}`: {_kind(properties[key])}" for key in model.model_fields if key != name]
        told = model.__doc__ or ""
        rows.append(f"| `{name}` | {' '.join(told.split())} | {'; '.join(beside)} |")
    return "\n".join(["| step | value and meaning | options beside it |", "|---|---|---|", *rows])


def _default(value: Any) -> str:
    if isinstance(value, Settings):
        return "its defaults"
    return "" if value is PydanticUndefined else f"`{json.dumps(value)}`"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(part) for part in parts if part.get("type") != "null"))
    if "$ref" in schema:
        return "settings below"
    return {"array": "list", "object": "mapping", "string": "text", "integer": "whole number", "boolean": "true, false"}.get(
        schema.get("type", ""), "number" if schema.get("type") == "number" else "any"
    )


def main(folder: Path) -> None:
    """Write schemas and documents of `folder`."""
    (folder / "schema").mkdir(parents=True, exist_ok=True)
    for name, content in schemas().items():
        (folder / "schema" / name).write_text(content)
    for document in folder.glob("*.md"):
        document.write_text(filled(document.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "manifests")
