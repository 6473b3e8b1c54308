"""A sample as its data set names it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from medadv_transforms.errors import InputError

MAX_LABEL_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class Source:
    """Where one sample comes from; JSON-able, paths relative to the data root.

    label: int, list of 0/1, {"mask": [paths]} with what its values mean (`datasets/masks.py`), {"segments": [[class, COCO segmentation]],
    "classes": K}, {"boxes": xyxy pixels, "classes": 1-based}, {"relative": [[class, cx, cy, w, h]]}, {"world": xyzxyz in RAS
    mm, "classes": 1-based} or None.
    index: slice of a volume or series, None for the whole.  size: (height, width) that the label file states for the upright picture.
    """

    images: tuple[str, ...]
    label: Any
    group: str | None = None
    index: int | None = None
    size: tuple[int, int] | None = None
    strata: tuple[tuple[str, str], ...] = ()
    """Column and value of what reports tell samples apart by; published."""
    mirror: tuple[int, ...] = ()
    """Spatial axes of the stored image that it is mirrored along."""

    def as_dict(self) -> dict[str, Any]:
        """For the frozen plan; a key that came later stands there only where it says something."""
        values: dict[str, Any] = {"images": self.images, "label": self.label, "group": self.group, "index": self.index}
        later = {"size": self.size, "strata": self.strata, "mirror": self.mirror}
        return values | {key: value for key, value in later.items() if value}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Source":
        """The inverse of `as_dict`."""
        size, strata = data.get("size"), tuple((str(column), str(value)) for column, value in data.get("strata", ()))
        images, mirror = tuple(data["images"]), tuple(data.get("mirror", ()))
        return cls(images, data["label"], data["group"], data["index"], tuple(size) if size else None, strata, mirror)

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
    notes: list[str] = field(default_factory=list)
    """What was passed over without being a problem, in words and numbers, without names."""
    aside: dict[str, str] = field(default_factory=dict)
    """Files that were set aside and why. Private, as paths are."""
    nothing_labelled: str | None = None
    """Why a corpus of these samples would be refused: no label file, no annotation belongs to any of them."""

    def refuse(self, path: str, code: str, message: str = "") -> None:
        """Record an input that cannot be used; code as in medadv_transforms.errors."""
        self.problems.append(Problem.of(path, InputError(code, message)))

    def locate(self, name: str, allow_outside: bool, *, folder: bool = False) -> str | None:
        """A listed file's path relative to the root, or None after recording why it cannot be used.

        A name that is no file is tried as other systems write it: backslashes, blanks around it.  folder: a folder may be meant.
        """
        tried = dict.fromkeys((name, name.strip(), name.strip().replace("\\", "/")))
        found = [self._look(PurePosixPath(each), allow_outside, folder) for each in tried]
        good = next((path for path, _ in found if path is not None), None)
        if good is None and any(why == "outside-root" for _, why in found):
            self.refuse(name, "outside-root")
        elif good is None:
            self.refuse(name, "not-found", "The file that the label file names does not exist.")
        return good

    def _look(self, relative: PurePosixPath, allow_outside: bool, folder: bool) -> tuple[str | None, str]:
        path = self.root / relative
        try:
            inside = allow_outside or (not relative.is_absolute() and path.resolve().is_relative_to(self.root.resolve()))
            there = path.is_file() or (folder and relative.parts != () and path.is_dir())
        except (OSError, ValueError, RuntimeError):
            # A name too long, one with a null byte, a loop of links: no such file can be meant.
            return None, "not-found"
        if not inside:
            return None, "outside-root"
        return (relative.as_posix(), "") if there else (None, "not-found")

    @property
    def remarks(self) -> list[str]:
        """The notes, and how many files were set aside."""
        aside = sorted(Counter(self.aside.values()).items())
        return [*self.notes, *(f"{counted(number, 'file')} set aside: {why}" for why, number in aside)]

    def skipped(self, files: list[str]) -> None:
        """Note files that the layout has no use for, by their suffixes."""
        kinds = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in files)
        if kinds:
            self.notes.append(f"{counted(len(files), 'file')} skipped ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))})")


def counted(number: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
