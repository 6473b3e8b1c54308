"""Layouts whose labels stand in one file: csv, decathlon (MSD dataset.json) and coco."""

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from medadv.common.errors import SpecError
from medadv.datasets.source import MAX_LABEL_FILE_BYTES, Listing, Source
from medadv.spec.data import DataSettings

IMAGE_COLUMNS = ("file", "image", "filename", "file_name", "path", "image_path")


def list_csv(path: Path, data: DataSettings) -> Listing:
    """One row per sample; `data.label` names the column of the truth (a class, or a mask file for segmentation)."""
    rows = _rows(path)
    columns = list(rows[0]) if rows else []
    image = data.image or next((c for c in IMAGE_COLUMNS if c in columns), None)
    if image is None:
        raise SpecError(f"{path}: no image column among {columns}; name it as data.image, also as a template such as 'images/{{id}}.png'")
    labels = [] if data.unlabelled else _labels(data)
    split = data.split.column if data.split else None
    for column in [*labels, data.group, split, image if "{" not in image else None]:
        if column is not None and column not in columns:
            raise SpecError(f"{path}: no column {column!r}; there are {', '.join(columns)}")
    if data.task == "detection" and labels:
        raise SpecError(f"{path}: a csv holds no boxes; task detection takes layout coco or yolo")
    listing = Listing(path.parent, classes=data.classes)
    for number, row in enumerate(rows, 2):
        group = row[data.group] if data.group else None
        if split and data.split and row[split] != data.split.use:
            if group and row[split] not in data.split.ignore:
                listing.other_groups.add(group)
            continue
        try:
            name = image.format(**row) if "{" in image else row[image]
        except (KeyError, IndexError, ValueError):
            raise SpecError(f"{path}: data.image={image!r} names no column of {columns}") from None
        located = listing.locate(name, data.allow_outside) if name else None
        if located is None:
            if not name:
                listing.refuse(f"line {number}", "not-found", "The row names no image.")
            continue
        label = _csv_label(listing, located, [row[c] for c in labels], data)
        if label is not _REFUSED:
            listing.sources.append(Source((located,), label, group or None))
    return listing


_REFUSED = object()


def _labels(data: DataSettings) -> list[str]:
    return data.label if isinstance(data.label, list) else [str(data.label)]


def _csv_label(listing: Listing, located: str, values: list[str], data: DataSettings) -> Any:
    """The row's truth, or _REFUSED after recording why."""
    if not values:
        return None
    if any(not v for v in values):
        listing.refuse(located, "missing-label")
        return _REFUSED
    if data.task == "segmentation":
        masks = [listing.locate(v, data.allow_outside) for v in values]
        return _REFUSED if None in masks else {"mask": masks}
    try:
        numbers = [data.classes.index(v) if data.classes and v in data.classes else int(float(v)) for v in values]
        if any(not float(v).is_integer() for v in values if not (data.classes and v in data.classes)):
            raise ValueError
    except (ValueError, OverflowError):
        listing.refuse(located, "unknown-label", "The label is neither a whole number nor one of data.classes.")
        return _REFUSED
    return numbers[0] if isinstance(data.label, str) else numbers


def list_decathlon(path: Path, data: DataSettings) -> Listing:
    """MSD dataset.json: `split.use` names the list (default `training`); records are {image, label, ...} or bare image names."""
    document = _json(path)
    use = data.split.use if data.split else "training"
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    if use not in lists:
        raise SpecError(f"{path}: no list {use!r}; there are {', '.join(lists)}")
    listing = Listing(path.parent)
    for key, records in lists.items():
        for record in records:
            entry = record if isinstance(record, dict) else {"image": record}
            group = entry.get(data.group) if data.group else None
            if data.group and group is None and key == use and isinstance(record, dict):
                raise SpecError(f"{path}: a record of {use!r} has no key {data.group!r}; there are {', '.join(entry)}")
            if key != use:
                if group is not None and not (data.split and key in data.split.ignore):
                    listing.other_groups.add(str(group))
                continue
            _add_decathlon(listing, entry, None if group is None else str(group), data)
    return listing


def _add_decathlon(listing: Listing, entry: dict[str, Any], group: str | None, data: DataSettings) -> None:
    name = entry.get("image")
    image = listing.locate(name, data.allow_outside) if isinstance(name, str) else None
    if not isinstance(name, str):
        listing.refuse(str(name)[:200], "not-found", "The record names no image file.")
    if image is None:
        return
    label: Any = None
    if not data.unlabelled:
        raw = entry.get("label")
        if isinstance(raw, str) and data.task == "segmentation":
            mask = listing.locate(raw, data.allow_outside)
            if mask is None:
                return
            label = {"mask": [mask]}
        elif isinstance(raw, int) and data.task == "classification":
            label = raw
        else:
            listing.refuse(str(name), "missing-label", "The record has no label for this task.")
            return
    listing.sources.append(Source((image,), label, group))


def list_coco(path: Path, data: DataSettings) -> Listing:
    """COCO detection json; classes are the categories in the order of their ids, counted from 1. Crowd annotations are left out."""
    document = _json(path)
    try:
        categories = sorted(document["categories"], key=lambda c: c["id"])
        images, annotations = document["images"], document.get("annotations", [])
        index = {c["id"]: i + 1 for i, c in enumerate(categories)}
        boxes: dict[Any, list[Any]] = defaultdict(list)
        for annotation in annotations:
            if not annotation.get("iscrowd"):
                boxes[annotation["image_id"]].append(annotation)
        listing = Listing(path.parent, classes=[str(c.get("name", c["id"])) for c in categories])
        for entry in images:
            group = entry.get(data.group) if data.group else None
            if data.split and data.split.column not in entry:
                raise SpecError(f"{path}: an image has no key {data.split.column!r}; there are {', '.join(entry)}")
            if data.split and str(entry[data.split.column]) != data.split.use:
                if group is not None and str(entry[data.split.column]) not in data.split.ignore:
                    listing.other_groups.add(str(group))
                continue
            located = listing.locate(entry["file_name"], data.allow_outside)
            if located is None:
                continue
            if data.group and group is None:
                raise SpecError(f"{path}: an image has no key {data.group!r}; there are {', '.join(entry)}")
            label = None if data.unlabelled else _coco_label(listing, located, boxes[entry["id"]], index, data)
            if label is not _REFUSED:
                listing.sources.append(Source((located,), label, None if group is None else str(group)))
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"{path}: not a COCO file ({type(error).__name__} at {error})") from None
    return listing


def _coco_label(listing: Listing, located: str, annotations: list[Any], index: dict[Any, int], data: DataSettings) -> Any:
    if data.task != "detection":
        raise SpecError(f"layout coco gives boxes, so task {data.task} cannot use it; take csv with a column of masks or classes")
    boxes, classes = [], []
    for annotation in annotations:
        values = annotation["bbox"]
        numbers = isinstance(values, list) and len(values) == 4 and all(isinstance(v, int | float) for v in values)
        if not numbers or not (0 < values[2] < 1e6 and 0 < values[3] < 1e6 and -1e6 < values[0] < 1e6 and -1e6 < values[1] < 1e6):
            listing.refuse(located, "bad-box")
            return _REFUSED
        if annotation["category_id"] not in index:
            listing.refuse(located, "unknown-label", "A box has a category that the file does not list.")
            return _REFUSED
        x, y, w, h = map(float, values)
        boxes.append([x, y, x + w, y + h])
        classes.append(index[annotation["category_id"]])
    return {"boxes": boxes, "classes": classes}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with _checked(path).open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{path}: cannot be read as CSV ({error})") from None
    if any(None in row or None in row.values() for row in rows):
        raise SpecError(f"{path}: a row has more or fewer fields than the header")
    return rows


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_checked(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(document, dict):
        raise SpecError(f"{path}: holds a {type(document).__name__}, expected an object")
    return document


def _checked(path: Path) -> Path:
    if not path.is_file():
        raise SpecError(f"{path}: no such file (data.path is relative to the spec)")
    if path.stat().st_size > MAX_LABEL_FILE_BYTES:
        raise SpecError(f"{path}: larger than {MAX_LABEL_FILE_BYTES} bytes")
    return path
