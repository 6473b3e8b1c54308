"""Layouts whose labels stand in one file: csv and decathlon (MSD dataset.json)."""

from pathlib import Path
from typing import Any

from medadv.common.errors import SpecError
from medadv.datasets.label_files import read_json, read_rows
from medadv.datasets.series import series_at
from medadv.datasets.source import Listing, Source
from medadv.datasets.space_boxes import named_in_space
from medadv.datasets.strata import strata_of
from medadv.datasets.templates import filled
from medadv.spec.data import DataSettings
from medadv.spec.modality import MODALITIES
from medadv_transforms import InputError

IMAGE_COLUMNS = ("file", "image", "filename", "file_name", "path", "image_path")


def list_csv(path: Path, data: DataSettings, base: Path) -> Listing:
    """One row per sample; `data.label` names the column of the truth (a class, or a mask file for segmentation)."""
    columns, rows = read_rows(path)
    image = data.image or next((c for c in IMAGE_COLUMNS if c in columns), None)
    if image is None:
        raise SpecError(f"{path}: no image column among {columns}; name it as data.image, also as a template such as 'images/{{id}}.png'")
    labels = [] if data.unlabelled else _labels(data)
    split = data.split.column if data.split else None
    for column in [*labels, data.group, split, image if "{" not in image else None]:
        if column is not None and column not in columns:
            raise SpecError(f"{path}: no column {column!r}; there are {', '.join(columns)}")
    if data.task == "detection" and labels:
        raise SpecError(f"{path}: a csv holds no boxes; task detection takes layout coco or yolo, and decathlon for volumes")
    listing = Listing(root_of(path, data, base), classes=data.classes)
    for number, row in rows:
        group = row[data.group] if data.group else None
        if split and data.split and row[split] != data.split.use:
            if group and row[split] not in data.split.ignore:
                listing.other_groups.add(group)
            continue
        try:
            name = filled(image, row) if "{" in image else row[image]
        except (KeyError, ValueError):
            raise SpecError(f"{path}: data.image={image!r} names no column of {columns}; between braces stands a name alone") from None
        located = listing.locate(name, data.allow_outside, folder=MODALITIES[data.modality].in_space) if name else None
        if located is None:
            if not name:
                listing.refuse(f"line {number}", "not-found", "The row names no image.")
            continue
        label = _csv_label(listing, located, [row[c] for c in labels], data)
        if label is not _REFUSED:
            add(listing, located, label, group or None, strata_of(row, data, path))
    return listing


def root_of(path: Path, data: DataSettings, base: Path) -> Path:
    """The folder that names in a label file are relative to. SpecError where it does not exist."""
    if data.root is None:
        return path.parent
    root = base / data.root
    if not root.is_dir():
        raise SpecError(f"{root}: no such folder (data.root is relative to the spec)")
    return root


def add(listing: Listing, located: str, label: Any, group: str | None, strata: tuple[tuple[str, str], ...] = ()) -> None:
    """Add a sample: a file, or the one DICOM series of a folder."""
    if not (listing.root / located).is_dir():
        listing.sources.append(Source((located,), label, group, strata=strata))
        return
    masks = label["mask"] if isinstance(label, dict) and "mask" in label else []
    found = series_at(listing, located, masks)
    if len(found) != 1:
        code = "mixed-series" if found else "empty-input"
        listing.refuse(located, code, f"The folder holds {len(found)} CT series; a row names a folder of one.")
        return
    files, patient = found[0]
    listing.sources.append(Source(files, label, group or patient or None, strata=strata))


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


def list_decathlon(path: Path, data: DataSettings, base: Path) -> Listing:
    """MSD dataset.json: `split.use` names the list (default `training`); records are {image, label, ...} or bare image names.

    Detection: `box` and `label` of MONAI's detection, see `datasets/space_boxes.py`.
    """
    document = read_json(path)
    use = data.split.use if data.split else "training"
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    if use not in lists:
        raise SpecError(f"{path}: no list {use!r}; there are {', '.join(lists)}")
    listing = Listing(root_of(path, data, base), classes=data.classes if data.task == "detection" else None)
    if data.task == "detection" and not data.unlabelled and not any(isinstance(each, dict) and "box" in each for each in lists[use]):
        listing.nothing_labelled = f"no record of {use!r} has the key 'box'"
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
    name = _only(entry.get("image"))
    image = listing.locate(name, data.allow_outside, folder=MODALITIES[data.modality].in_space) if isinstance(name, str) else None
    if not isinstance(name, str):
        listing.refuse(str(name)[:200], "not-found", "The record does not name one image file.")
    if image is None:
        return
    label: Any = None
    strata = strata_of(entry, data, f"record {name!r}")
    if not data.unlabelled:
        if data.task == "detection":
            try:
                add(listing, image, named_in_space(entry, data.box_mode, data.box_space), group, strata)
            except InputError as error:
                listing.refuse(image, error.code, error.message)
            return
        raw = _only(entry.get("label"))
        names = raw if isinstance(raw, list) else [raw]
        if names and all(isinstance(each, str) for each in names) and data.task == "segmentation":
            masks = [listing.locate(each, data.allow_outside) for each in names]
            if None in masks:
                return
            label = {"mask": masks}
        elif isinstance(raw, int) and data.task == "classification":
            label = raw
        else:
            listing.refuse(str(name), "missing-label", "The record has no label for this task.")
            return
    add(listing, image, label, group, strata)


def _only(value: Any) -> Any:
    """What a list of one element holds: some tools write every name as a list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
