"""What could not be used, and why? The lines of `quarantine.jsonl`, as typed records, and how they are read."""

from typing import Annotated

from pydantic import Field

from medadv.common.errors import IntegrityError
from medadv.common.hashing import canonical_json
from medadv.common.record import Closed, RecordError, parse, plain
from medadv.corpus.folder import Workspace
from medadv_transforms import InputError
from medadv_transforms.errors import REASONS

Code = Annotated[str, Field(json_schema_extra={"enum": sorted(REASONS)})]


class QuarantineRecord(Closed):
    """An input that could not be used; a line of quarantine.jsonl, or an entry of a receipt."""

    source: str | None = Field(None, description="keyed hash of the input's path: only the maker finds the file by it")
    sample: str | None = Field(None, description="id of a sample that was planned and lost later")
    code: Code = Field(description="reason code")
    message: str = Field(description="what was found; no header values, no file names")
    advice: str

    @classmethod
    def of_sample(cls, sample: str, error: InputError) -> "QuarantineRecord":
        """Of a planned sample that was lost."""
        return cls(sample=sample, code=error.code, message=error.message, advice=error.advice)

    @property
    def public_name(self) -> str:
        """What the maker finds the input by."""
        return self.source or self.sample or ""


def quarantine_line(record: QuarantineRecord) -> bytes:
    """As it stands in the file, without the end of the line."""
    return canonical_json(plain(record))


def read_quarantine(workspace: Workspace) -> list[QuarantineRecord]:
    """The records as last written, none where nothing was written yet. IntegrityError where a line is none."""
    try:
        lines = workspace.quarantine.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    try:
        return [parse(QuarantineRecord, line) for line in lines if line]
    except RecordError as error:
        raise IntegrityError(f"{workspace.quarantine} is damaged: {error}; see `medadv verify`") from None
