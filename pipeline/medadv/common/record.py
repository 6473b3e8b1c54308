"""What do records share? Frozen models, patterns of their values, and the one way from bytes to a model and back to what is written."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Json = bool | int | float | str | None | Sequence["Json"] | Mapping[str, "Json"]
"""What JSON can say."""


class Closed(BaseModel):
    """A frozen record that knows all its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Open(BaseModel):
    """A frozen record that may hold more than its named keys."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class RecordError(ValueError):
    """What was read is no such record: where and why, in one line."""


class NoJsonError(RecordError):
    """It is not even JSON."""


Record = TypeVar("Record", bound=BaseModel)


def parse(model: type[Record], data: bytes | str) -> Record:
    """The record that JSON is. RecordError where it is none."""
    try:
        return model.model_validate_json(data)
    except ValidationError:
        # Rare, and so read once more in two steps, which tell what is no JSON from what is no record.
        pass
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise NoJsonError("is no JSON") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RecordError(_described(error)) from None
    except RecursionError:
        raise RecordError("is nested too deeply") from None


def plain(record: BaseModel) -> Any:
    """A record as JSON-able values, under the keys that it was read or built with: what is read and written again has the same bytes."""
    return record.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _described(error: ValidationError) -> str:
    first, *more = error.errors(include_url=False, include_context=False, include_input=False)
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{where}: {first['msg']}" + (f" (and {len(more)} more)" if more else "")
