"""Layouts that are folder trees: class folders, folders of images and masks, YOLO text files, and DICOM trees."""

import os
from glob import escape
from pathlib import Path
from typing import Any

from medadv.common.errors import SpecError
from medadv.datasets.source import Listing, Problem, Source
from medadv.spec.data import DataSettings
from medadv_transforms import InputError, find_series

MAX_CLASSES = 10_000
"""More is a damaged label file."""

ID = "{id}"
"""The part of a file's name that image and mask share."""

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".dcm", ".nii", ".nii.gz")


def list_folders(path: Path, data: DataSettings) -> Listing:
    """One folder per class; with `split.use`, class folders lie inside that folder. Classes in `data.classes`' order, else by name.

    For segmentation `data.image` and `data.label` are templates of image and mask instead, see `_list_pairs`.
    """
    if data.task == "segmentation":
        return _list_pairs(path, data)
    if data.task != "classification":
        raise SpecError(f"layout folders gives classes or masks, so task {data.task} cannot use it")
    if data.group:
        raise SpecError("layout folders knows no groups; use csv with a column of patients")
    root = _folder(path)
    top = _folder(root / data.split.use) if data.split else root
    names = sorted(entry.name for entry in top.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes = data.classes or names
    if unknown := sorted(set(names) - set(classes)):
        raise SpecError(f"{top}: folders {', '.join(unknown)} are not in data.classes")
    listing = Listing(root, classes=classes)
    for name in names:
        for file in _images(top / name):
            located = listing.locate(file.relative_to(root).as_posix(), data.allow_outside)
            if located is not None:
                listing.sources.append(Source((located,), None if data.unlabelled else classes.index(name)))
    return listing


def _list_pairs(path: Path, data: DataSettings) -> Listing:
    """Images with their masks, by templates such as `images/{id}.png` and `masks/{id}_mask.png` below the root.

    Every file that fits `data.image` is a sample; its {id}, put into the template (or templates, one per class) of `data.label`, names
    the mask.
    """
    if data.split or data.group:
        raise SpecError("layout folders knows no split and no groups of masks; name a folder in data.image, or use csv or decathlon")
    if data.image is None or data.image.count(ID) != 1:
        raise SpecError(f"data.image={data.image!r}: layout folders finds images and masks by a template with one {ID}, as images/{ID}.png")
    masks = [] if data.unlabelled else data.label if isinstance(data.label, list) else [data.label or ""]
    if wrong := [mask for mask in masks if ID not in mask]:
        raise SpecError(f"data.label={wrong[0]!r}: takes a template with {ID}, as masks/{ID}.png, or `none`")
    listing = Listing(_folder(path))
    before, after = data.image.split(ID)
    for file in sorted(listing.root.glob(f"{escape(before)}*{escape(after)}")):
        name = file.relative_to(listing.root).as_posix()
        stem = name[len(before) : len(name) - len(after)]
        if file.is_file() and not stem.startswith("."):
            located = [listing.locate(each, data.allow_outside) for each in (name, *(mask.replace(ID, stem) for mask in masks))]
            if None not in located:
                image, *labels = (each for each in located if each)
                listing.sources.append(Source((image,), {"mask": labels} if masks else None))
    return listing


def list_yolo(path: Path, data: DataSettings) -> Listing:
    """Images with a text file each (`class cx cy w h`, relative): beside the image, or in `labels/` for `images/`. Without one: no boxes.

    Class 0 of the text files is class 1 here. `split.use` names a folder under `images/` and `labels/`, or under the root.
    """
    if data.task != "detection":
        raise SpecError(f"layout yolo gives boxes, so task {data.task} cannot use it")
    root = _folder(path)
    images = root / "images" if (root / "images").is_dir() else root
    top = _folder(images / data.split.use) if data.split else images
    listing = Listing(root, classes=data.classes)
    for file in _images(top):
        relative = file.relative_to(root).as_posix()
        located = listing.locate(relative, data.allow_outside)
        if located is None:
            continue
        label = None if data.unlabelled else _yolo_label(listing, root, relative)
        if label is not None or data.unlabelled:
            listing.sources.append(Source((located,), label))
    return listing


def _yolo_label(listing: Listing, root: Path, relative: str) -> dict[str, Any] | None:
    """{"relative": rows}, or None after recording why the file cannot be used."""
    parts = relative.split("/")
    twin = Path(root, *(["labels", *parts[1:]] if parts[0] == "images" else parts)).with_suffix(".txt")
    if not twin.exists():
        return {"relative": []}
    rows = []
    try:
        for line in twin.read_text(encoding="utf-8").splitlines():
            if line.strip():
                kind, *values = line.split()
                cx, cy, w, h = map(float, values)
                if not 0 <= int(kind) < MAX_CLASSES or not (0 <= cx <= 1 and 0 <= cy <= 1 and 0 < w <= 1 and 0 < h <= 1):
                    raise ValueError
                rows.append([int(kind) + 1, cx, cy, w, h])
    except (OSError, UnicodeDecodeError, ValueError):
        listing.refuse(relative, "bad-box", "A line is not `class cx cy width height` with numbers in [0, 1].")
        return None
    return {"relative": rows}


def list_dicom(path: Path, data: DataSettings, base: Path) -> Listing:
    """Every series of a folder tree; `data.label` names one mask (NIfTI or DICOM SEG, relative to the spec) of the one series."""
    if data.task == "detection" and not data.unlabelled:
        raise SpecError("layout dicom carries no boxes; task detection takes label: none, coco or yolo")
    if data.task == "classification" and not data.unlabelled:
        raise SpecError("layout dicom carries no classes; use csv with one file per row, or label: none")
    if data.split or data.group:
        raise SpecError("layout dicom knows no split and takes its groups from the patients; leave data.split and data.group out")
    root = _folder(path)
    mask = None
    if isinstance(data.label, str) and not data.unlabelled:
        file = base / data.label
        if not file.exists():
            raise SpecError(f"data.label: {file} does not exist (relative to the spec)")
        # Given by the user by name, so it may lie outside the data root.
        mask = _relative(file, root)
    elif data.task == "segmentation" and not data.unlabelled:
        raise SpecError("data.label is missing: the mask file, or `none` for the victim's own prediction")
    listing = Listing(root)
    found = find_series(root)
    for series in found:
        for file, code in series.rejected:
            listing.problems.append(Problem.of(_relative(file, root), InputError(code)))
        files = [listing.locate(_relative(f, root), data.allow_outside) for f in series.files]
        if files and None not in files:
            label = {"mask": [mask]} if mask else None
            listing.sources.append(Source(tuple(f for f in files if f), label, series.patient))
    if mask and len(listing.sources) != 1:
        raise SpecError(f"{root}: {len(listing.sources)} image series for one mask; point data.path at one series")
    return listing


def _relative(file: Path, root: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def _images(folder: Path) -> list[Path]:
    """Image files under a folder, sorted, hidden ones left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(IMAGES))
    # Only what lies below counts: the way to the folder may lead through `..`.
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise SpecError(f"{path}: no such folder (data.path is relative to the spec)")
    return path
