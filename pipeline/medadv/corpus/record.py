"""What the published records share: frozen models, patterns of their values, and why a value is none."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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


def shape_problem(model: type[BaseModel], data: Any) -> str | None:
    """Why a decoded JSON value is no such record, in one line; None when it is."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        first, *more = error.errors(include_url=False, include_context=False, include_input=False)
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        return f"{where}: {first['msg']}" + (f" (and {len(more)} more)" if more else "")
    return None
