"""What every part of a run spec shares: frozen, and unknown keys are refused."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from medadv.common.errors import SpecError


class Settings(BaseModel):
    """A frozen value that refuses keys it does not know.

    A key that is added once corpora exist would change their plans and make every one of them refuse to resume. So it stands in `ADDED`,
    with a default that means what was done before there was such a key; while it has that value it is in no dump, and with that in no
    plan, no hash, no manifest and no comparison.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)
    ADDED: ClassVar[frozenset[str]] = frozenset()

    def filled_in(self) -> frozenset[str]:
        """Keys that something else sets where they are left out, so that they have to be said at every value."""
        return frozenset()

    @model_serializer(mode="wrap")
    def _without_what_means_nothing_new(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        for name in self.ADDED:
            field = type(self).model_fields[name]
            if name not in self.filled_in() and getattr(self, name) == field.get_default(call_default_factory=True):
                values.pop(name, None)
                values.pop(field.alias or name, None)
        return values


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Of a corpus or an attack: becomes part of names of files and of paths in shards."""
Count = Annotated[int, Field(ge=1)]

RESERVED = ("image", "label", "region", "clean")
"""What readers and files call the other things that belong to a sample: as an attack's name it could not be told from them."""


def refuse_reserved(names: Iterable[str]) -> None:
    """Raise SpecError where an attack has a name that means something else beside it."""
    if taken := sorted(set(names) & set(RESERVED)):
        raise SpecError(
            f"attacks.{taken[0]}: {', '.join(RESERVED)} mean other things than an attack wherever samples are read or exported; "
            f"take another name, such as {taken[0]}-attack"
        )
