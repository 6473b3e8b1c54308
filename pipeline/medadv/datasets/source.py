"""A sample as its data set names it."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from medadv_transforms.errors import InputError

MAX_LABEL_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class Source:
    """Where one sample comes from; JSON-able, paths relative to the data root.

    label: int, list of 0/1, {"mask": [paths]}, {"boxes": xyxy pixels, "classes": 1-based}, {"relative": [[class, cx, cy, w, h]]} or None.
    index: slice of a volume or series, None for the whole.
    """

    images: tuple[str, ...]
    label: Any
    group: str | None = None
    index: int | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Source":
        """The inverse of `as_dict`."""
        return cls(tuple(data["images"]), data["label"], data["group"], data["index"])

    @property
    def masks(self) -> tuple[str, ...]:
        """Label files, if the label is a mask."""
        return tuple(self.label["mask"]) if isinstance(self.label, dict) and "mask" in self.label else ()


@dataclass(frozen=True)
class Problem:
    """An input that cannot be used. `path` is private; code, message and advice are published."""

    path: str
    code: str
    message: str
    advice: str

    @classmethod
    def of(cls, path: str, error: InputError) -> "Problem":
        """From what a reader refused."""
        return cls(path, error.code, error.message, error.advice)


@dataclass
class Listing:
    """What a layout found: samples of the chosen split, the groups of the other splits, and what cannot be used."""

    root: Path
    sources: list[Source] = field(default_factory=list)
    other_groups: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    classes: list[str] | None = None

    def refuse(self, path: str, code: str, message: str = "") -> None:
        """Record an input that cannot be used; code as in medadv_transforms.errors."""
        self.problems.append(Problem.of(path, InputError(code, message)))

    def locate(self, name: str, allow_outside: bool) -> str | None:
        """A listed file's path relative to the root, or None after recording why it cannot be used."""
        relative = PurePosixPath(name)
        path = self.root / relative
        try:
            inside = allow_outside or (not relative.is_absolute() and path.resolve().is_relative_to(self.root.resolve()))
            there = path.is_file()
        except (OSError, ValueError, RuntimeError):
            # A name too long, one with a null byte, a loop of links: no such file can be meant.
            inside, there = True, False
        if not inside:
            self.refuse(name, "outside-root")
            return None
        if not there:
            self.refuse(name, "not-found", "The file that the label file names does not exist.")
            return None
        return relative.as_posix()
