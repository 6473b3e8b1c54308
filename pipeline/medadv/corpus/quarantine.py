"""What could not be used, and why? A line of `quarantine.jsonl`."""

from pydantic import Field

from medadv.corpus.record import Closed, Code


class QuarantineRecord(Closed):
    """An input that could not be used; a line of quarantine.jsonl, or an entry of a receipt."""

    source: str | None = Field(None, description="keyed hash of the input's path: only the maker finds the file by it")
    sample: str | None = Field(None, description="id of a sample that was planned and lost later")
    code: Code = Field(description="reason code")
    message: str = Field(description="what was found; no header values, no file names")
    advice: str
