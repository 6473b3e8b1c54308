"""What do label files say of a folder? nnU-Net, COCO and Decathlon JSON, and CSV, as far as a first spec needs them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medadv.common.errors import SpecError
from medadv.datasets.guessed import Guess, kind, split_name
from medadv.datasets.label_files import read_json, read_rows
from medadv.datasets.nnunet import CHANNEL
from medadv.datasets.pairing import pairs

IMAGE_COLUMNS = ("file", "image", "filename", "file_name", "path", "image_path")
ID_COLUMNS = ("id_code", "image_id", "id")
GROUP_COLUMNS = ("patient", "patient_id", "group", "study", "session", "case", "capture_session")
LABEL_COLUMNS = ("label", "diagnosis", "grade", "class", "referable", "target", "mask")
TABLES = (".csv", ".tsv")
DEEPEST = 3
"""Folders above a label file that is looked for."""
MOST_BYTES = 64 << 20
MOST_CLASSES = 50
PLANS = ("plans.json", "nnUNetPlans.json", "dataset_fingerprint.json")
"""What nnU-Net writes beside what it preprocesses and trains."""


def nnunet(folder: Path, names: Sequence[str], modality: str) -> Guess | None:
    """The raw format: of version 2 with its dataset.json, of version 1 or without one by the names of its files."""
    for name, document in _objects(folder, names, "dataset.json"):
        above = name.rpartition("/")[0]
        inside = f"{above}/" if above else ""
        images = [each for each in names if each.startswith((f"{inside}imagesTr/", f"{inside}imagesTs/"))]
        channels, labels = document.get("channel_names"), document.get("labels")
        if not images or not isinstance(channels, dict) or not isinstance(labels, dict) or "file_ending" not in document:
            continue
        found = Guess("nnunet", "segmentation", modality, above or ".", classes=max(2, sum(label != "ignore" for label in labels)))
        if not any(each.startswith(f"{inside}labelsTr/") for each in names):
            found.settings["label"] = "none"
            found.task_unsure = True
        if not any(str(channel).upper() == "CT" for channel in channels.values()):
            found.unsure = kind(images[0]) == "volume"
            found.notes.append("channels of dataset.json: " + ", ".join(str(channel) for channel in channels.values()))
        if any(isinstance(value, list) for value in labels.values()):
            found.notes.append("labels that are regions take label_map, and head: sigmoid")
        return found
    return None


def trained_by_nnunet(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder holds what nnU-Net made of a data set."""
    return any(name.rpartition("/")[2] in PLANS for name in names) and any(name.rpartition("/")[2] == "dataset.json" for name in names)


def coco_or_decathlon(folder: Path, names: Sequence[str], modality: str) -> Guess | None:
    """The first JSON file that is either."""
    for name, document in _objects(folder, names, ".json"):
        images = [entry for entry in _list(document, "images") if isinstance(entry, dict)]
        if images and isinstance(document.get("annotations"), list):
            found = Guess("coco", "detection", modality, name, classes=len(_list(document, "categories")) + 1)
            return _columns(found, [str(key) for key in images[0]], (str(entry.get("split", "")) for entry in images))
        for use in ("validation", "training", "test"):
            entries = [entry for entry in _list(document, use) if isinstance(entry, dict) and {"image", "label"} <= entry.keys()]
            if entries and "box" in entries[0]:
                return _boxes_in_space(name, use, entries, modality)
            if entries:
                return _decathlon(folder, name, use, entries, names, modality)
    return None


def _decathlon(folder: Path, name: str, use: str, entries: list[Any], names: Sequence[str], modality: str) -> Guess | None:
    entry = entries[0]
    stem, ending = split_name(str(entry["image"]))
    beside = (folder / name).parent
    if not _exists(beside / str(entry["image"])) and _exists(beside / f"{stem}{CHANNEL}{ending}"):
        # nnU-Net of version 1: its dataset.json names cases, not files.
        return pairs(names, modality)
    task = "classification" if isinstance(entry["label"], int) else "segmentation"
    found = Guess("decathlon", task, modality, name, {"split": {"use": use}})
    return _columns(found, [str(key) for key in entry if key in GROUP_COLUMNS], [])


def _boxes_in_space(name: str, use: str, entries: list[Any], modality: str) -> Guess:
    """MONAI's detection: boxes of volumes, classes from 0."""
    classes = [each for entry in entries for each in _list(entry, "label") if isinstance(each, int)]
    found = Guess("decathlon", "detection", modality, name, {"split": {"use": use}}, classes=max(classes, default=0) + 2)
    found.volumes = True
    found.notes.append("boxes in space, read as LUNA16 has them: box_mode: cccwhd, box_space: lps")
    return _columns(found, [str(key) for key in entries[0] if key in GROUP_COLUMNS], [])


def csv_table(folder: Path, names: Sequence[str], modality: str) -> Guess | None:
    """The first table with a column of images and one of labels."""
    for name in _shallow(folder, names, TABLES):
        try:
            columns, numbered = read_rows(folder / name)
        except (SpecError, OSError):
            continue
        rows = [row for _, row in numbered]
        image = next((c for c in columns if c.lower() in IMAGE_COLUMNS), None)
        stem = next((c for c in columns if c.lower() in ID_COLUMNS), None) if image is None else None
        label = next((c for wanted in LABEL_COLUMNS for c in columns if c.lower() == wanted), None)
        if (image or stem) is None or label is None or not rows:
            continue
        values = sorted({row[label] for row in rows})
        masks = kind(values[-1]) in ("picture", "volume")
        found = Guess("csv", "segmentation" if masks else "classification", modality, name, {"label": label}, classes=max(2, len(values)))
        if image not in (None, "file", "image"):
            found.settings["image"] = image
        if stem is not None:
            found.settings["image"] = _template(names, stem, [row[stem] for row in rows], name)
        if not masks:
            _classes(found, label, values, len(rows))
        return _columns(found, columns, (row.get("split", "") for row in rows))
    return None


def _classes(found: Guess, label: str, values: list[str], rows: int) -> None:
    """What a column of labels says of the classes; as many values as images are hardly classes."""
    found.task_unsure = len(values) > MOST_CLASSES or (len(values) == rows and rows > 2)
    if len(values) > MOST_CLASSES:
        found.notes.append(f"{len(values)} values of {label}: are they classes?")
        return
    found.notes.append(f"{len(values)} values of {label}: {', '.join(values[:8])}")
    if not all(value.isascii() and value.isdigit() for value in values if value):
        found.settings["classes"] = [value for value in values if value]


def _template(names: Sequence[str], column: str, values: Sequence[str], beside: str) -> str:
    """images/{id}.png for a column that holds names without an ending."""
    wanted, images = set(values), (name for name in names if kind(name) in ("picture", "volume"))
    known = next((name for name in images if split_name(name.rpartition("/")[2])[0] in wanted), f"{values[0]}.png")
    folder = Path(beside).parent
    relative = Path(known).relative_to(folder) if Path(known).is_relative_to(folder) else Path(known)
    return (relative.parent / f"{{{column}}}{split_name(relative.name)[1]}").as_posix()


def _columns(found: Guess, columns: Sequence[str], splits: Iterable[str]) -> Guess:
    group = next((c for c in GROUP_COLUMNS if c in columns), None)
    if group:
        found.settings["group"] = group
    values = Counter(value for value in splits if value)
    if values:
        use = next((v for v in ("test", "validation", "val") if v in values), min(values))
        found.settings["split"] = {"column": "split", "use": use}
        found.notes.append("splits: " + ", ".join(f"{value} ({count})" for value, count in sorted(values.items())))
    return found


def _objects(folder: Path, names: Sequence[str], ending: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """JSON files whose names end so and that hold an object, with what it holds."""
    for name in _shallow(folder, names, (ending,)):
        try:
            yield name, read_json(folder / name)
        except SpecError:
            continue


def _shallow(folder: Path, names: Sequence[str], endings: tuple[str, ...]) -> list[str]:
    """Files that may be label files, those of the upper folders first."""
    ended = (name for name in names if name.lower().endswith(endings) and name.count("/") <= DEEPEST)
    return sorted((name for name in ended if 0 < _size(folder / name) <= MOST_BYTES), key=lambda name: (name.count("/"), name))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []
