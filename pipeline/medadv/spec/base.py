"""What every part of a run spec shares: frozen, unknown keys are refused, and keys that came later leave older plans as they were."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Settings(BaseModel):
    """A frozen value that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Keys that came after plans had been made: at its default, which means what was done before, such a key is not written down."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        for name in self.ADDED:
            if getattr(self, name) == type(self).model_fields[name].default:
                values.pop(name, None)
        return values
