"""What does a data folder seem to hold? Its layout, task and modality, guessed for `medadv init`."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from medadv.common.errors import SpecError
from medadv.datasets.class_folders import SPLITS, class_folders, unlabelled
from medadv.datasets.greyness import grey
from medadv.datasets.guessed import Guess, kind, listing
from medadv.datasets.label_tables import coco_or_decathlon, csv_table, nnunet, trained_by_nnunet
from medadv.datasets.pairing import mask_rank, pairs

MOST_TEXTS = 200
MOST_BYTES = 1 << 20
"""Of a text file of boxes."""


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
    grey: bool = False
    """Whether it is taken where all pictures are grey."""
    as_pictures: tuple[str, str, int] | None = None
    """Preprocess, normalize and epsilon of its 8-bit pictures, where those are not its usual images."""


ONE_SIZE = "preprocess: {size: [256, 256], fit: pad}   # height, width"
OF_IMAGENET = "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}   # <- as in training, of values in 0..1"
FIRST_LOOKS = {
    "ct": FirstLook(
        "preprocess: {as: slices}     # or volume: whole CT series",
        "normalize: {window: [-1000, 400]}   # <- as in training; HU mapped to 0..1",
        epsilon=60,
        kinds=("volume", "dcm"),
        grey=True,
        as_pictures=(ONE_SIZE, "normalize: {mean: [0.5], std: [0.25]}   # <- as in training, of values in 0..1", 4),
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


def guess(folder: Path, modality: str | None = None) -> Guess | None:
    """The likeliest reading of a folder, or None. modality: given, or guessed from names, file types and colours.

    Raises SpecError: the folder holds what nnU-Net made of a data set, not the data set.
    """
    names = listing(folder)
    kinds = Counter(kind(name) for name in names)
    told = modality or _modality(folder, names, kinds)
    found = next(_readings(folder, names, told or ""), None)
    if found is None and trained_by_nnunet(folder, names):
        raise SpecError(f"{folder}: what nnU-Net preprocessed or trained, without the images: name the raw data set (imagesTr, labelsTr)")
    if found is None:
        return None
    found.pictures = kinds["picture"] > 0 and not any(kinds[each] for look in FIRST_LOOKS.values() for each in look.kinds)
    if modality is None:
        _settle(found, folder, names, told)
    return found


def _readings(folder: Path, names: list[str], told: str) -> Iterator[Guess]:
    """Every reading that fits, the surest first: label files, then boxes, series, masks, folders."""
    for read in (nnunet, coco_or_decathlon, csv_table, _yolo, _dicom):
        if (found := read(folder, names, told)) is not None:
            yield found
    for by_name in (pairs, class_folders, unlabelled):
        if (guessed := by_name(names, told)) is not None:
            yield guessed


def _settle(found: Guess, folder: Path, names: list[str], told: str | None) -> None:
    """The modality, by what names and files say and by the colours of the pictures."""
    if told is None:
        found.modality = next(name for name, look in FIRST_LOOKS.items() if found.task in look.likeliest_for)
        found.unsure = True
    if found.pictures and not FIRST_LOOKS[found.modality].grey:
        drawn = [folder / name for name in names if kind(name) == "picture" and all(mask_rank(part) is None for part in name.split("/"))]
        if drawn and grey(drawn):
            found.unsure = True
            found.notes.append("the pictures are grey: CT, or name another modality")
            if told is None:
                found.modality = next(name for name, look in FIRST_LOOKS.items() if look.grey)


def _modality(folder: Path, names: list[str], kinds: Counter[str]) -> str | None:
    """By file types and names; None where they say nothing."""
    text = " ".join([folder.resolve().name, *names[:200]]).lower()
    by_kind = (name for name, look in FIRST_LOOKS.items() if any(kinds[each] for each in look.kinds))
    by_word = (name for name, look in FIRST_LOOKS.items() if any(word in text for word in look.words))
    return next(chain(by_kind, by_word), None)


def _yolo(folder: Path, names: list[str], modality: str) -> Guess | None:
    stems = {Path(name).stem for name in names if kind(name) == "picture"}
    texts = [name for name in names if name.lower().endswith(".txt") and Path(name).stem in stems]
    if not texts:
        return None
    classes: set[int] = set()
    for name in texts[:MOST_TEXTS]:
        try:
            with (folder / name).open("rb") as file:
                text = file.read(MOST_BYTES).decode("utf-8-sig", errors="replace")
        except OSError:
            continue
        lines = [line.split() for line in text.splitlines() if line.strip()]
        if any(len(line) != 5 or not (line[0].isascii() and line[0].isdigit()) or len(line[0]) > 4 for line in lines):
            return None
        classes |= {int(line[0]) for line in lines}
    found = Guess("yolo", "detection", modality, ".", classes=max(classes, default=0) + 2)
    parts = sorted({name.split("/")[0] for name in texts})
    if len(parts) > 1 and all(part.lower() in SPLITS for part in parts):
        found.settings["split"] = {"use": min(parts, key=lambda part: SPLITS.index(part.lower()))}
    return found


def _dicom(folder: Path, names: list[str], _: str) -> Guess | None:
    if not any(name.lower().endswith(".dcm") for name in names):
        return None
    found = Guess("dicom", "segmentation", "ct", ".", {"label": "none"}, task_unsure=True)
    found.notes.append("without a mask the victim's own answer is the truth; name a mask file as label otherwise")
    return found
