"""The published records as JSON Schemas, each under a name with its version."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from medadv.common.record import Json
from medadv.corpus.manifest import Manifest
from medadv.corpus.quarantine import QuarantineRecord
from medadv.corpus.receipt import Receipt
from medadv.spec.run_spec import RunSpec
from medadv.store.layout import FORMAT_VERSION


@dataclass(frozen=True)
class Published:
    """A record that others read. version: rises when what fitted the schema before may fit no more, or means something else."""

    model: type[BaseModel]
    version: int

    def file(self, name: str) -> str:
        """Its file in manifests/schema/, and the end of its `$id`."""
        return f"{name}-{self.version}.schema.json"


SCHEMAS = {
    # What stands in a corpus goes by the corpus's own format_version.
    "manifest": Published(Manifest, FORMAT_VERSION),
    "receipt": Published(Receipt, FORMAT_VERSION),
    "quarantine-record": Published(QuarantineRecord, FORMAT_VERSION),
    "run-spec": Published(RunSpec, 1),
}
"""Name of a record -> what is published of it."""


def json_schema(name: str, published: Published) -> dict[str, Json]:
    """JSON Schema (draft 2020-12) of a record, such as one of SCHEMAS."""
    schema = published.model.model_json_schema(by_alias=True, mode="validation")
    _close(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"medadv/{published.file(name)}", **schema}


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
