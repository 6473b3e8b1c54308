"""`medadv init`: look at a data folder, guess its layout, and write a commented run spec to go on from."""

import csv
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

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


def init(
    folder: Annotated[Path, typer.Argument(help="data folder to look at")],
    out: Annotated[Path, typer.Option("--out", help="spec to write")] = Path("medadv.yaml"),
    modality: Annotated[str | None, typer.Option(help="ct, fundus or endoscopy, where the guess is wrong")] = None,
) -> None:
    """Look at a data folder, guess its layout, and write a commented run spec.

    Example: medadv init data/polyps --modality endoscopy --out polyps.yaml
    """
    from medadv.common.files import writable_file
    from medadv.errors import SpecError
    from medadv.spec.run import load_spec

    if not folder.is_dir():
        raise SpecError(f"{folder}: no such folder; name the one that holds the images")
    if out.exists():
        raise SpecError(f"{out}: exists already; name another file with --out")
    if modality not in (None, "ct", "fundus", "endoscopy"):
        raise SpecError(f"--modality {modality}: take ct, fundus or endoscopy")
    found = guess(folder, modality)
    if found is None:
        raise SpecError(f"{folder}: no images or label files that medadv knows; layouts: csv, decathlon, coco, yolo, folders, dicom")
    base = _between(out.resolve().parent, folder.resolve())
    writable_file(out).write_text(spec_text(found, base, out.stem), encoding="utf-8")
    load_spec(out)
    print(f"{out}: {found.layout} layout, {found.modality}, {found.task}")
    print(f"Set the lines marked with `<-`, then: medadv plan {out}")


def guess(folder: Path, modality: str | None = None) -> Guess | None:
    """The likeliest reading of a folder, or None. modality: given, or guessed from names and file types."""
    names = _listing(folder)
    kinds = Counter(_kind(name) for name in names)
    told = modality or _modality(folder, names, kinds)
    for reading in (_json_layouts, _csv_layout, _yolo, _dicom, _pairs, _folders):
        found = reading(folder, names, told or "fundus")
        if found is not None:
            if told is None and found.modality == "fundus":
                # Boxes on photographs: polyps and instruments far more often than lesions of the retina.
                found.modality = "endoscopy" if found.task == "detection" else "fundus"
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
    if kinds["volume"] or kinds["dcm"]:
        return "ct"
    words = {"fundus": ("fundus", "retin", "aptos", "idrid", "diabet"), "endoscopy": ("polyp", "endosc", "colon", "kvasir", "ead20")}
    return next((kind for kind, hints in words.items() if any(hint in text for hint in hints)), None)


def _json_layouts(folder: Path, names: list[str], modality: str) -> Guess | None:
    for name in (n for n in names if n.endswith(".json") and n.count("/") < 2):
        path = folder / name
        if path.stat().st_size > MOST_BYTES:
            continue
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
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


def spec_text(found: Guess, base: str, name: str) -> str:
    """The spec as YAML with comments; every value that a folder cannot tell is marked."""
    ct = found.modality == "ct"
    lines = [
        "# Written by medadv init after a look at the folder; every line is a guess until you have read it.",
        f"name: {_safe(name)}",
        "data:",
        f"  modality: {found.modality}            # {'<- ' if found.unsure else ''}ct | fundus | endoscopy",
        f"  task: {found.task}",
        f"  layout: {found.layout}",
        f"  path: {_quoted(base if found.path == '.' else f'{base}/{found.path}')}   # relative to this file",
        *(f"  {key}: {_value(value)}" for key, value in found.settings.items()),
        *(f"  # {note}" for note in found.notes),
        *([] if "group" in found.settings else ["  # group: patient           # column of the patient, so that none crosses splits"]),
        '  licence: "not stated"      # <- licence of the images; it goes into the manifest',
        "preprocess: {as: slices}     # or volume: whole CT series"
        if ct
        else "preprocess: {size: [256, 256], fit: pad}   # height, width",
        "victim:                      # <- the model to attack; manifests/README.md lists the ways to name one",
        *(f"  {line}" for line in _victim(found)),
        "  weights: victim.safetensors   # <- safetensors or state dict, relative to this file",
        "  normalize: {window: [-1000, 400]}   # <- as in training; HU mapped to 0..1"
        if ct
        else "  normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}   # <- as in training, of values in 0..1",
        "attacks:                     # epsilon in HU" if ct else "attacks:                     # epsilon in grey levels",
        *(f"  {kind}-{60 if ct else 4}: {{attack: {kind}, epsilon: {60 if ct else 4}, steps: 10}}" for kind in ("pgd", "smia")),
        f"output: corpora/{_safe(name)}",
    ]
    return "\n".join(lines) + "\n"


def _victim(found: Guess) -> list[str]:
    channels = 1 if found.modality == "ct" else 3
    if found.task == "segmentation":
        inner = "channels: [16, 32, 64, 128, 256], strides: [2, 2, 2, 2], num_res_units: 2"
        return ["network: monai:unet", f"arguments: {{spatial_dims: 2, in_channels: {channels}, out_channels: 2, {inner}}}"]
    if found.task == "detection":
        return ["network: torchvision:fcos_resnet18_fpn_gn", f"arguments: {{num_classes: {found.classes}, size: 256}}"]
    return [
        "network: monai:resnet18",
        f"arguments: {{spatial_dims: 2, n_input_channels: {channels}, num_classes: {found.classes}}}",
    ]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(part)}" for key, part in value.items()) + "}"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    return text if text.replace("/", "").replace("_", "").replace("-", "").replace(".", "").isalnum() else json.dumps(text)


def _safe(name: str) -> str:
    cleaned = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name).lstrip("._-")
    return cleaned[:100] or "corpus"


def _between(start: Path, end: Path) -> str:
    """The way from one folder to another, as specs have their paths."""
    return Path(os.path.relpath(end, start)).as_posix()
