"""The published records as JSON Schemas."""

from typing import Any

from pydantic import BaseModel

from medadv.common.record import Json
from medadv.corpus.manifest import Manifest
from medadv.corpus.quarantine import QuarantineRecord
from medadv.corpus.receipt import Receipt
from medadv.spec.run_spec import RunSpec

SCHEMAS: dict[str, type[BaseModel]] = {
    "manifest": Manifest,
    "receipt": Receipt,
    "quarantine-record": QuarantineRecord,
    "run-spec": RunSpec,
}
"""File name in manifests/schema/ -> model."""


def json_schema(name: str) -> dict[str, Json]:
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
