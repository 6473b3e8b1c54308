"""Are folders of images classes, or patients, masks, parts of a data set? What is left where nothing labels the images."""

import re
from collections import Counter
from collections.abc import Sequence

from medadv.datasets.guessed import Guess, commonest, kind, split_name
from medadv.datasets.pairing import mask_rank

SPLITS = ("test", "validation", "valid", "val", "train", "training")
"""Names of parts of a data set, the one to attack first."""
PLAIN_WORDS = {
    *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "frame", "frames", "data", "scan", "scans", "ct"),
    *SPLITS,
}
"""Names of folders that say nothing of what the images show."""
CASE_WORDS = {
    *("p", "pt", "pat", "patient", "patients", "case", "cases", "subject", "subj", "sub", "s", "study", "series", "exam", "visit", "id"),
    *("session", "ses", "video", "vid", "seq", "sequence", "volume", "vol"),
}
"""What stands before the number of a patient, a study or a video."""
MOST_CLASSES = 50
GRADES = 10
"""Numbers below it, counted from 0 or 1, are grades; others are patients."""
SHOWN = 5


def look_like_patients(names: Sequence[str]) -> bool:
    """Whether folders are called after patients, studies or videos: numbered, by ids, or too many to be classes."""
    if not names or len(names) > MOST_CLASSES:
        return bool(names)
    numbered = [re.fullmatch(r"(?P<word>.*?)[\s_.-]*(?P<number>\d+)\D?", name) for name in names]
    if all(re.fullmatch(r"[0-9a-fA-F-]{8,}|[\d.]{12,}", name) for name in names):
        return True
    if not all(numbered):
        return any(match and match["word"].lower() in CASE_WORDS for match in numbered)
    words = {re.split(r"[^a-z]+", match["word"].lower())[-1] for match in numbered if match}
    numbers = sorted(match["number"] for match in numbered if match)
    grades = {str(number) for number in range(GRADES)}
    return bool(words & CASE_WORDS) or not (set(numbers) <= grades and min(numbers) in ("0", "1"))


def class_folders(names: Sequence[str], modality: str) -> Guess | None:
    """Folders of images as classes, always marked; where they are patients, a table to be written; None where they are neither."""
    drawn = [name for name in names if _is_image(name) and "/" in name]
    path: list[str] = []
    while drawn and len({name.split("/")[0] for name in drawn}) == 1 and all(name.count("/") > 1 for name in drawn):
        path.append(drawn[0].split("/")[0])
        drawn = [name.partition("/")[2] for name in drawn]
    folders = _tops(drawn)
    found = Guess("folders", "classification", modality, "/".join(path) or ".", task_unsure=True)
    if folders and all(name.lower() in SPLITS for name in folders):
        use = min(folders, key=lambda name: SPLITS.index(name.lower()))
        found.settings["split"] = {"use": use}
        folders = _tops([name.partition("/")[2] for name in drawn if name.startswith(f"{use}/")])
    if look_like_patients(folders):
        return None if _repeated(names) else _table(modality, folders)
    if len(folders) < 2 or any(name.lower() in PLAIN_WORDS for name in folders):
        return None
    found.classes = len(folders)
    found.notes.append(f"folders taken as classes: {_shown(folders)}; where they are patients, write a csv instead")
    return found


def unlabelled(names: Sequence[str], modality: str) -> Guess | None:
    """Images that nothing labels: the victim's own answer is the truth."""
    folders: Counter[tuple[str, str]] = Counter()
    for name in filter(_is_image, names):
        folder, _, file = name.rpartition("/")
        folders[folder, split_name(file)[1]] += 1
    if not folders:
        return None
    folder, ending = min(folders, key=lambda key: (-folders[key], key))
    template = _repeated(names) or "/".join(filter(None, [folder, f"{{id}}{ending}"]))
    found = Guess("folders", "segmentation", modality, ".", {"image": template, "label": "none"}, task_unsure=True)
    found.notes.append("nothing that labels the images was found: the victim's own answer is the truth")
    return found


def _tops(names: Sequence[str]) -> list[str]:
    return sorted({name.split("/")[0] for name in names if "/" in name})


def _repeated(names: Sequence[str]) -> str | None:
    """A template for images that are called the same in a folder a case, None where most are not."""
    images = list(filter(_is_image, names))
    cases: Counter[str] = Counter()
    for name in images:
        before, _, file = name.rpartition("/")
        above, _, case = before.rpartition("/")
        if case:
            cases["/".join(filter(None, [above, f"{{id}}/{file}"]))] += 1
    template = commonest(cases.elements()) if cases else ""
    return template if cases and cases[template] > 1 and 2 * cases[template] > len(images) else None


def _table(modality: str, folders: Sequence[str]) -> Guess:
    found = Guess("csv", "classification", modality, "labels.csv", {"label": "label", "group": "patient"}, task_unsure=True)
    found.notes.append(f"folders {_shown(folders)} look like patients, studies or videos, not like classes:")
    found.notes.append("write labels.csv yourself, a line an image: file,label,patient")
    return found


def _is_image(name: str) -> bool:
    """A picture or volume that neither its own name nor that of a folder calls a mask."""
    drawn = kind(name) in ("picture", "volume") and not name.lower().endswith(".gif")
    return drawn and all(mask_rank(part) is None for part in name.split("/"))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
