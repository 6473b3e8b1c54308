"""What a look at a folder gives: the files that were seen, and the reading of them that a first spec is written from."""

import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medadv.datasets.trees import PICTURES

VOLUMES = (".nii.gz", ".nii")
DRAWN = (*PICTURES, ".gif")
"""Endings of pictures; masks come as GIF too, which is told and not read."""
MOST_FILES = 20_000
MOST_OF_A_FOLDER = 2_000
"""Files looked at; enough to know a layout, and of every folder some."""


@dataclass
class Guess:
    """What the folder seems to hold. path: of the label file or folder, relative to the data folder.  notes: become comments."""

    layout: str
    task: str
    modality: str
    path: str
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    classes: int = 2
    unsure: bool = False
    """Whether nothing but the likelihood speaks for the modality."""
    task_unsure: bool = False
    """Whether nothing but the likelihood speaks for the task."""
    volumes: bool = False
    """Whether only whole volumes hold what the labels say."""
    pictures: bool = False
    """Whether the images are 8-bit pictures."""


def listing(folder: Path) -> list[str]:
    """Files below a folder, sorted: no hidden ones, no pipes or devices, none whose name no text can hold. Links of folders stay unread."""
    names: list[str] = []
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _plain(name))
        below = Path(top).relative_to(folder)
        names += [(below / name).as_posix() for name in sorted(filter(_plain, files))[:MOST_OF_A_FOLDER] if _regular(Path(top) / name)]
        if len(names) >= MOST_FILES:
            break
    return sorted(names[:MOST_FILES])


def _plain(name: str) -> bool:
    return not name.startswith(".") and name.isprintable()


def _regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def kind(name: str) -> str:
    """`picture`, `volume`, or the ending."""
    lower = name.lower()
    return "volume" if lower.endswith(VOLUMES) else "picture" if lower.endswith(DRAWN) else lower.rpartition(".")[2]


def split_name(file: str) -> tuple[str, str]:
    """A file's name without its ending, and the ending as it is written."""
    known = next((end for end in VOLUMES if file.lower().endswith(end)), Path(file).suffix)
    return file[: len(file) - len(known)], file[len(file) - len(known) :]


def commonest(values: Iterable[str]) -> str:
    """The most frequent one; of equals the first in order."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))
