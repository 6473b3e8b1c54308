"""Which files are masks of which images? Told from names alone, by what stands before and behind an id that both share."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from medadv.datasets.guessed import Guess, commonest, kind, split_name

MASK_WORDS = ("manual", "groundtruth", "gt", "label", "seg", "annot", "mask")
"""Parts of names of masks, the surest first: beside `1st_manual`, `mask` is the field of view."""
MOST_FOLDERS = 200
"""Folders that are held against each other; the fullest ones."""
SHARE = 0.5
"""Of the images that need a mask for a pair of folders to be one."""


@dataclass(frozen=True)
class FileSet:
    """Files of one folder that may be images, or masks. stems: name without its ending -> ending."""

    folder: str
    stems: dict[str, str]


@lru_cache(maxsize=100_000)
def mask_rank(text: str) -> int | None:
    """How surely a name is one of masks, 0 the surest; None where nothing says so."""
    lower = re.sub(r"[\s_.-]+", " ", text.lower())
    tight = lower.replace("ground truth", "groundtruth").replace("unlabel", "")
    for rank, word in enumerate(MASK_WORDS):
        if any(part.startswith(word) for part in re.split(r"[^a-z]+", tight)) if word == "gt" else word in tight:
            return rank
    return None


def pairs(names: Sequence[str], modality: str) -> Guess | None:
    """Images with masks, as templates of layout folders: case by case, folder by folder, or side by side in one folder."""
    drawn = [name for name in names if kind(name) in ("picture", "volume")]
    found = _by_case(drawn) or _by_folder(drawn)
    if found is None:
        return None
    image, labels = found
    guess = Guess("folders", "segmentation", modality, ".", {"image": image, "label": labels[0] if len(labels) == 1 else labels})
    guess.classes = len(labels) + 1
    if any(label.lower().endswith(".gif") for label in labels):
        guess.notes.append("GIF masks are not read: save them as PNG")
    if len(labels) == 1:
        guess.notes.append("label_map: {lesion: [255]}   # where mask values are not 0, 1, 2, ...")
    return guess


def _by_case(names: Sequence[str]) -> tuple[str, list[str]] | None:
    """A folder a case, the same names in each: `{id}/imaging.nii.gz`, `{id}/segmentation.nii.gz`, `{id}/segmentations/liver.nii.gz`."""
    cases: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in names:
        *folders, file = name.split("/")
        for place, case in enumerate(folders):
            cases["/".join([*folders[:place], ""]), "/".join([*folders[place + 1 :], file])].add(case)
    # What lies directly in a case's folder is its image. More images than folders are no cases, but parts of a data set.
    images = [key for key, ids in cases.items() if "/" not in key[1] and mask_rank(key[1]) is None and len(ids) > 1]
    several = Counter(before for before, _ in images)
    for before, image in sorted(images, key=lambda key: (-len(cases[key]), key)):
        ids = cases[before, image]
        if several[before] > len(ids):
            continue
        masks = [
            rest
            for (other, rest), having in cases.items()
            if other == before and rest != image and mask_rank(rest) is not None and 2 * len(having & ids) > len(ids)
        ]
        if not masks:
            continue
        beside = [rest for rest in masks if "/" not in rest]
        if beside:
            chosen = [min(beside, key=lambda rest: (mask_rank(rest), rest))]
        else:
            folder = commonest(rest.rpartition("/")[0] for rest in masks)
            chosen = sorted(rest for rest in masks if rest.rpartition("/")[0] == folder)
        return f"{before}{{id}}/{image}", [f"{before}{{id}}/{rest}" for rest in chosen]
    return None


def _by_folder(names: Sequence[str]) -> tuple[str, list[str]] | None:
    sets = _file_sets(names)
    best: dict[str, tuple[tuple[int, int, str], str, str]] = {}
    for images, masks in product(sets, sets):
        if (rank := _rank(images, masks)) is None or (pair := _affixes(images, masks)) is None:
            continue
        count, image, label = pair
        key = (rank, -count, masks.folder)
        if masks.folder not in best or key < best[masks.folder][0]:
            best[masks.folder] = (key, image, label)
    if not best:
        return None
    _, image, label = min(best.values())
    chosen = next(folder for folder, (_, _, text) in best.items() if text == label)
    # Folders side by side below one of masks hold a class each.
    parent = chosen.rpartition("/")[0]
    if mask_rank(chosen.rpartition("/")[2]) is None and mask_rank(parent) is not None:
        labels = sorted(text for folder, (_, other, text) in best.items() if folder.rpartition("/")[0] == parent and other == image)
        return image, labels
    return image, [label]


def _file_sets(names: Sequence[str]) -> list[FileSet]:
    """The fullest folders, each cut into the files that are called masks and the others."""
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        folder, _, file = name.rpartition("/")
        stem, ending = split_name(file)
        folders[folder][stem] = ending
    fullest = sorted(folders, key=lambda folder: (-len(folders[folder]), folder))[:MOST_FOLDERS]
    found = []
    for folder in sorted(fullest):
        called = {stem: ending for stem, ending in folders[folder].items() if mask_rank(stem) is not None}
        others = {stem: ending for stem, ending in folders[folder].items() if stem not in called}
        found += [FileSet(folder, part) for part in (called, others) if part]
    return found


def _rank(images: FileSet, masks: FileSet) -> int | None:
    """How surely the second are masks of the first; None where they are not. What both ways have in common says nothing."""
    if images is masks or any(mask_rank(stem) is not None for stem in [*images.stems][:1]):
        return None
    shared = os.path.commonpath([images.folder or ".", masks.folder or "."]) if images.folder and masks.folder else ""
    own, other = (text.removeprefix(shared) for text in (images.folder, masks.folder))
    if mask_rank(own) is not None:
        return None
    return mask_rank(other) if other and mask_rank(other) is not None else mask_rank(next(iter(masks.stems)))


def _affixes(images: FileSet, masks: FileSet) -> tuple[int, str, str] | None:
    """How many images have a mask, and both templates; None where too few have one."""
    best: tuple[int, int, str, str] | None = None
    for (before, behind), (mask_before, mask_behind) in product(_ends(images), _ends(masks)):
        ids = {_inner(stem, before, behind) for stem in images.stems}
        shared = {*ids} & {_inner(stem, mask_before, mask_behind) for stem in masks.stems} - {""}
        ends = [
            commonest(part.stems[f"{front}{each}{back}"] for each in shared) if shared else ""
            for part, front, back in ((images, before, behind), (masks, mask_before, mask_behind))
        ]
        cut = len(before + behind + mask_before + mask_behind)
        image, label = (
            "/".join(filter(None, [part.folder, f"{front}{{id}}{back}{end}"]))
            for part, front, back, end in ((images, before, behind, ends[0]), (masks, mask_before, mask_behind, ends[1]))
        )
        if len(shared) > SHARE * len(images.stems) and (best is None or (-len(shared), cut) < (-best[0], best[1])):
            best = (len(shared), cut, image, label)
    return None if best is None else (best[0], best[2], best[3])


def _ends(files: FileSet) -> list[tuple[str, str]]:
    """What may stand before and behind the id: nothing, or what all names share. Digits next to the id belong to it."""
    stems = list(files.stems)
    before, behind = _shared(stems).rstrip("0123456789"), _shared([stem[::-1] for stem in stems])[::-1].lstrip("0123456789")
    if len(stems) == 1:
        # Of a single file the whole name is shared: what is no number at its ends may be.
        number = re.search(r"\d+", stems[0])
        before, behind = (stems[0][: number.start()], stems[0][number.end() :]) if number else ("", "")
    return list(product(dict.fromkeys(("", before)), dict.fromkeys(("", behind))))


def _shared(texts: Sequence[str]) -> str:
    """What all begin with: the first and the last in order differ the earliest."""
    first, last = min(texts), max(texts)
    return first[: next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))]


def _inner(stem: str, before: str, behind: str) -> str:
    return stem[len(before) : len(stem) - len(behind)] if len(stem) > len(before) + len(behind) else ""
