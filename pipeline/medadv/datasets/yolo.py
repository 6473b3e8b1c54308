"""YOLO: a text file of boxes for each image, in `labels/` for `images/`, or beside it."""

from pathlib import Path, PurePosixPath
from typing import Any

from medadv.common.errors import SpecError
from medadv.datasets.label_files import read_text
from medadv.datasets.series import relative
from medadv.datasets.source import Listing, Source, counted
from medadv.datasets.tables import root_of
from medadv.datasets.trees import folder_at, images_below
from medadv.spec.data import DataSettings

MAX_CLASSES = 10_000
"""More is a damaged label file."""

NO_LABELS = ("classes", "class_list", "labels", "predefined_classes", "train", "val", "valid", "test", "readme", "license")
"""Beginnings of text files that tools write beside labels."""


def list_yolo(path: Path, data: DataSettings, base: Path) -> Listing:
    """Images with a text file each (`class cx cy w h`, relative): in `labels/` for the last `images/` on the way to it, or beside it.

    Class 0 of the text files is class 1 here. `path` is a folder, or a text file that names an image a line. `split.use` names a folder
    under `images/` and `labels/`, or under the root. An empty text file says that nothing is there; a missing one says nothing, and is
    counted.
    """
    if data.task != "detection":
        raise SpecError(f"layout yolo gives boxes, so task {data.task} cannot use it")
    listing, names = _named(path, data, base) if path.is_file() else _walked(path, data, base)
    twins: set[Path] = set()
    missing: list[str] = []
    listed = 0
    for name in names:
        located = listing.locate(name, data.allow_outside)
        if located is None:
            continue
        listed += 1
        if data.unlabelled:
            listing.sources.append(Source((located,), None))
            continue
        twin = next((place for place in _places(listing.root, located) if place.is_file()), None)
        rows: list[Any] | None = []
        if twin is None:
            missing.append(located)
        else:
            twins.add(twin)
            rows = _rows(listing, located, twin)
        if rows is not None:
            listing.sources.append(Source((located,), {"relative": rows}))
    if missing:
        listing.notes.append(f"{len(missing)} of {counted(listed, 'image')} without a label file: taken as images without objects")
    if missing and len(missing) == listed:
        first = _places(listing.root, missing[0])[0]
        listing.nothing_labelled = f"no label file for any of {counted(listed, 'image')}: {relative(first, listing.root)} does not exist"
    orphans = {file for folder in {twin.parent for twin in twins} for file in folder.glob("*.txt")} - twins
    if count := sum(not file.name.lower().startswith(NO_LABELS) for file in orphans):
        listing.notes.append(f"{counted(count, 'label file')} without an image")
    return listing


def _walked(path: Path, data: DataSettings, base: Path) -> tuple[Listing, list[str]]:
    """Images below a folder, or below the split's part of it."""
    folder_at(path)
    root = _above_images(path, data) if data.root is None else root_of(path, data, base)
    images = path / "images" if (path / "images").is_dir() else path
    top = images
    if data.split:
        top = next((each / data.split.use for each in (images, path) if (each / data.split.use).is_dir()), images / data.split.use)
        folder_at(top)
    listing = Listing(root, classes=data.classes)
    found, others = images_below(top)
    listing.skipped([file.name for file in others if file.suffix.lower() != ".txt"])
    return listing, [relative(file, root) for file in found]


def _above_images(path: Path, data: DataSettings) -> Path:
    """The folder that holds both `images` and `labels` where data.path leads through `images`; else that path.

    What leads to the spec may be called so too, and is none of the data set's folders.
    """
    given = PurePosixPath(data.path).parts
    steps = [i for i, part in enumerate(given) if part == "images"]
    return Path(*path.parts[: len(path.parts) - len(given) + steps[-1]]) if steps else path


def _named(path: Path, data: DataSettings, base: Path) -> tuple[Listing, list[str]]:
    """Images that a text file names."""
    if data.split:
        raise SpecError(f"{path}: a list of images is one split; leave data.split out")
    return Listing(root_of(path, data, base), classes=data.classes), [line for line in read_text(path).splitlines() if line.strip()]


def _places(root: Path, name: str) -> list[Path]:
    """Where the label file of an image may lie, likeliest first."""
    parts = PurePosixPath(name).parts
    steps = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    twins = [Path(*parts[:i], "labels", *parts[i + 1 :]) for i in reversed(steps)]
    return [(root / twin).with_suffix(".txt") for twin in (*twins, Path(name))]


def _rows(listing: Listing, name: str, twin: Path) -> list[Any] | None:
    """[class, cx, cy, w, h] of each line, or None after recording why the file cannot be used."""
    rows = []
    try:
        for line in twin.read_text(encoding="utf-8-sig").splitlines():
            if line.strip():
                kind, *values = line.split()
                cx, cy, w, h = map(float, values)
                if not 0 <= int(kind) < MAX_CLASSES or not (0 <= cx <= 1 and 0 <= cy <= 1 and 0 < w <= 1 and 0 < h <= 1):
                    raise ValueError
                rows.append([int(kind) + 1, cx, cy, w, h])
    except (OSError, UnicodeDecodeError, ValueError):
        listing.refuse(name, "bad-box", "A line is not `class cx cy width height` with numbers in [0, 1].")
        return None
    return rows
