"""What verification says: where something is wrong, and what."""

from dataclasses import asdict, dataclass

from medadv.common.printable import printable


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. sample and array are named where the damage lies in one."""

    file: str
    what: str
    sample: str | None = None
    array: str | None = None

    def __str__(self) -> str:
        where = [f"sample {self.sample}" if self.sample else "", self.array or ""]
        return printable(": ".join([self.file, *(part for part in where if part), self.what]))

    def as_dict(self) -> dict[str, str | None]:
        """For --json."""
        return asdict(self)
