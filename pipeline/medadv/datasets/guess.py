"""What does a data folder seem to hold? Its layout, task and modality, guessed for `medadv init`."""

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii", ".nii.gz")
IMAGE_COLUMNS = ("file", "image", "filename", "file_name", "path", "image_path")
ID_COLUMNS = ("id_code", "image_id", "id")
GROUP_COLUMNS = ("patient", "patient_id", "group", "study", "session", "case", "capture_session")
LABEL_COLUMNS = ("label", "diagnosis", "grade", "class", "referable", "target", "mask")
MASK_WORDS = ("mask", "label", "seg")
MOST_FILES = 20_000
"""Files looked at; enough to know a layout."""
MOST_BYTES = 64 << 20
CLASSES_AT_MOST = 50


@dataclass(frozen=True)
class FirstLook:
    """What gives a modality away, and what a first spec of it says."""

    preprocess: str
    """Lines of YAML, with their comments."""
    normalize: str
    epsilon: int
    kinds: tuple[str, ...] = ()
    """File types that no other modality has: `volume`, or an ending."""
    words: tuple[str, ...] = ()
    """Parts of the names of folders and files."""
    likeliest_for: tuple[str, ...] = ()
    """Tasks for which it is taken where nothing else speaks."""


ONE_SIZE = "preprocess: {size: [256, 256], fit: pad}   # height, width"
OF_IMAGENET = "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}   # <- as in training, of values in 0..1"
FIRST_LOOKS = {
    "ct": FirstLook(
        "preprocess: {as: slices}     # or volume: whole CT series",
        "normalize: {window: [-1000, 400]}   # <- as in training; HU mapped to 0..1",
        epsilon=60,
        kinds=("volume", "dcm"),
    ),
    "fundus": FirstLook(
        ONE_SIZE,
        OF_IMAGENET,
        epsilon=4,
        words=("fundus", "retin", "aptos", "idrid", "diabet"),
        likeliest_for=("classification", "segmentation"),
    ),
    "endoscopy": FirstLook(
        ONE_SIZE,
        OF_IMAGENET,
        epsilon=4,
        words=("polyp", "endosc", "colon", "kvasir", "ead20"),
        # Boxes on photographs: polyps and instruments far more often than lesions of the retina.
        likeliest_for=("detection",),
    ),
}


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


def guess(folder: Path, modality: str | None = None) -> Guess | None:
    """The likeliest reading of a folder, or None. modality: given, or guessed from names and file types."""
    names = _listing(folder)
    kinds = Counter(_kind(name) for name in names)
    told = modality or _modality(folder, names, kinds)
    for reading in (_json_layouts, _csv_layout, _yolo, _dicom, _pairs, _folders):
        found = reading(folder, names, told or "")
        if found is not None:
            if told is None:
                found.modality = next(name for name, look in FIRST_LOOKS.items() if found.task in look.likeliest_for)
                found.unsure = True
            return found
    return None


def _listing(folder: Path) -> list[str]:
    names = []
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            names.append(path.relative_to(folder).as_posix())
            if len(names) >= MOST_FILES:
                break
    return sorted(names)


def _kind(name: str) -> str:
    lower = name.lower()
    return "volume" if lower.endswith(VOLUMES) else "picture" if lower.endswith(PICTURES) else lower.rpartition(".")[2]


def _modality(folder: Path, names: list[str], kinds: Counter[str]) -> str | None:
    """By file types and names; None where they say nothing."""
    text = " ".join([folder.resolve().name, *names[:200]]).lower()
    by_kind = (name for name, look in FIRST_LOOKS.items() if any(kinds[kind] for kind in look.kinds))
    by_word = (name for name, look in FIRST_LOOKS.items() if any(word in text for word in look.words))
    return next(chain(by_kind, by_word), None)


def _json_layouts(folder: Path, names: list[str], modality: str) -> Guess | None:
    for name in (n for n in names if n.endswith(".json") and n.count("/") < 2):
        path = folder / name
        if path.stat().st_size > MOST_BYTES:
            continue
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            continue
        if not isinstance(data, dict):
            continue
        if isinstance(data.get("annotations"), list) and isinstance(data.get("images"), list) and data["images"]:
            keys = data["images"][0]
            found = Guess("coco", "detection", modality, name, classes=len(data.get("categories", [0])) + 1)
            return _columns(found, list(keys), [str(entry.get("split", "")) for entry in data["images"]])
        lists = [key for key in ("validation", "training", "test") if isinstance(data.get(key), list) and data[key]]
        if lists and isinstance(data[lists[0]][0], dict) and "label" in data[lists[0]][0]:
            entry = data[lists[0]][0]
            found = Guess("decathlon", "segmentation", modality, name, {"split": {"use": lists[0]}})
            return _columns(found, [key for key in entry if key in GROUP_COLUMNS], [])
    return None


def _csv_layout(folder: Path, names: list[str], modality: str) -> Guess | None:
    for name in (n for n in names if n.endswith(".csv") and n.count("/") < 2):
        with (folder / name).open(newline="", encoding="utf-8-sig", errors="replace") as file:
            rows = [row for row, _ in zip(csv.DictReader(file), range(MOST_FILES), strict=False)]
        columns = list(rows[0]) if rows else []
        image = next((c for c in columns if c in IMAGE_COLUMNS), None)
        stem = next((c for c in columns if c in ID_COLUMNS), None) if image is None else None
        label = next((c for wanted in LABEL_COLUMNS for c in columns if c == wanted), None)
        if (image or stem) is None or label is None:
            continue
        values = sorted({row[label] for row in rows})
        masks = bool(values) and _kind(values[0]) in ("picture", "volume")
        found = Guess("csv", "segmentation" if masks else "classification", modality, name, {"label": label}, classes=max(2, len(values)))
        if image not in (None, "file", "image"):
            found.settings["image"] = image
        if stem is not None:
            found.settings["image"] = _template(names, stem, rows[0][stem], name)
        if not masks and len(values) <= CLASSES_AT_MOST:
            found.notes.append(f"{len(values)} values of {label}: {', '.join(values[:8])}")
        return _columns(found, columns, [row.get("split", "") for row in rows])
    return None


def _template(names: list[str], column: str, value: str, beside: str) -> str:
    """images/{id}.png for a column that holds names without an ending."""
    known = next((n for n in names if Path(n).stem == value), f"{value}.png")
    folder = Path(beside).parent
    relative = Path(known).relative_to(folder) if Path(known).is_relative_to(folder) else Path(known)
    return (relative.parent / f"{{{column}}}{relative.suffix}").as_posix()


def _columns(found: Guess, columns: list[str], splits: list[str]) -> Guess:
    group = next((c for c in GROUP_COLUMNS if c in columns), None)
    if group:
        found.settings["group"] = group
    values = Counter(value for value in splits if value)
    if values:
        use = next((v for v in ("test", "validation", "val") if v in values), min(values))
        found.settings["split"] = {"column": "split", "use": use}
        found.notes.append("splits: " + ", ".join(f"{value} ({count})" for value, count in sorted(values.items())))
    return found


def _yolo(folder: Path, names: list[str], modality: str) -> Guess | None:
    stems = {Path(n).stem for n in names if _kind(n) == "picture"}
    texts = [n for n in names if n.endswith(".txt") and Path(n).stem in stems]
    if not texts:
        return None
    classes: set[int] = set()
    for name in texts[:200]:
        lines = [line.split() for line in (folder / name).read_text(errors="replace").splitlines() if line.strip()]
        if any(len(line) != 5 or not line[0].isdigit() for line in lines):
            return None
        classes |= {int(line[0]) for line in lines}
    return Guess("yolo", "detection", modality, ".", classes=max(classes, default=0) + 2)


def _dicom(folder: Path, names: list[str], _: str) -> Guess | None:
    if not any(name.lower().endswith(".dcm") for name in names):
        return None
    found = Guess("dicom", "segmentation", "ct", ".", {"label": "none"})
    found.notes.append("without a mask the victim's own answer is the truth; name a mask file as label otherwise")
    return found


def _pairs(folder: Path, names: list[str], modality: str) -> Guess | None:
    """Two folders with files of the same names, one of them called after masks."""
    files: dict[str, dict[str, str]] = {}
    for name in names:
        if _kind(name) in ("picture", "volume"):
            parent, _, file = name.rpartition("/")
            ending = next((end for end in VOLUMES[::-1] if file.endswith(end)), Path(file).suffix)
            files.setdefault(parent, {})[file.removesuffix(ending)] = ending
    for labels in (parent for parent in files if any(word in parent.lower() for word in MASK_WORDS)):
        for images in files.keys() - {labels}:
            shared = files[images].keys() & files[labels].keys()
            if 2 * len(shared) > len(files[images]):
                ends = [Counter(files[parent][stem] for stem in shared).most_common(1)[0][0] for parent in (images, labels)]
                settings = {"image": f"{images}/{{id}}{ends[0]}", "label": f"{labels}/{{id}}{ends[1]}"}
                found = Guess("folders", "segmentation", modality, ".", settings)
                found.notes.append("label_map: {lesion: [255]}   # where mask values are not 0, 1, 2, ...")
                return found
    return None


def _folders(folder: Path, names: list[str], modality: str) -> Guess | None:
    pictures = [n for n in names if _kind(n) in ("picture", "volume") and "/" in n]
    if not pictures:
        return None
    depth = Counter(n.count("/") for n in pictures).most_common(1)[0][0]
    found = Guess("folders", "classification", modality, ".")
    if depth == 2:
        parts = sorted({n.split("/")[0] for n in pictures})
        found.settings["split"] = {"use": next((p for p in ("test", "validation", "val") if p in parts), parts[0])}
    found.classes = max(2, len({n.split("/")[depth - 1] for n in pictures if n.count("/") == depth}))
    return found
