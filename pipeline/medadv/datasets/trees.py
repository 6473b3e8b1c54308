"""Layouts that are folder trees: class folders, folders of images and masks, and DICOM trees."""

import re
from collections import Counter
from glob import escape
from pathlib import Path

from medadv.common.errors import SpecError
from medadv.datasets.series import relative, series_at
from medadv.datasets.source import Listing, Source, counted
from medadv.datasets.strata import dicom_strata
from medadv.datasets.templates import filled
from medadv.spec.data import DataSettings
from medadv_transforms.nifti import FOREIGN_VOLUMES

ID = "{id}"
"""The part of a file's name that image and mask share."""

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm")

IMAGES = (*PICTURES, ".dcm", ".nii", ".nii.gz", *FOREIGN_VOLUMES)
"""What ends so is listed as an image; a volume of a kind that is not read is refused with its reason, not skipped."""


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
    root = folder_at(path)
    top = folder_at(root / data.split.use) if data.split else root
    names = sorted(entry.name for entry in top.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    classes = data.classes or names
    if unknown := sorted(set(names) - set(classes)):
        raise SpecError(f"{top}: folders {', '.join(unknown)} are not in data.classes")
    # Names that are no text are published as what their bytes are.
    listing = Listing(root, classes=[name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in classes])
    listing.skipped([entry.name for entry in top.iterdir() if entry.is_file() and not entry.name.startswith(".")])
    for name in names:
        found, others = images_below(top / name)
        listing.skipped([file.name for file in others])
        for file in found:
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
    listing = Listing(folder_at(path))
    stems: list[str] = []
    named: set[str] = set()
    fitting = _fitting(listing.root, data.image)
    # Beside `{id}.png`, `{id}_mask.png` looks like an image: what is the mask of another one is none.
    drawn = {mask.replace(ID, stem) for name, stem in fitting for mask in masks if mask.replace(ID, stem) != name}
    for name, stem in (pair for pair in fitting if pair[0] not in drawn):
        stems.append(stem)
        labels = [mask.replace(ID, stem) for mask in masks]
        named.update((name, *labels))
        located = [listing.locate(each, data.allow_outside) for each in (name, *labels)]
        if None not in located:
            image, *files = (each for each in located if each)
            listing.sources.append(Source((image,), {"mask": files} if masks else None))
    alone = sum(stem not in stems for mask in masks for _, stem in _fitting(listing.root, mask))
    if alone:
        listing.notes.append(f"{counted(alone, 'mask')} without an image")
    used = named | {name for mask in masks for name, _ in _fitting(listing.root, mask)}
    folders = {(listing.root / name).parent for name in named}
    beside = {relative(file, listing.root) for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()}
    listing.skipped(sorted(name for name in beside - used if not Path(name).name.startswith(".")))
    return listing


def _fitting(root: Path, template: str) -> list[tuple[str, str]]:
    """Files below the root that fit a template, with what stands for its {id}; sorted."""
    first, *others = template.split(ID)
    # Where {id} stands more than once, it is the same everywhere.
    fits = re.compile(re.escape(first) + "([^/]*)" + r"\1".join(re.escape(part) for part in others))
    found = []
    for file in sorted(root.glob("*".join(escape(part) for part in (first, *others)))):
        name = file.relative_to(root).as_posix()
        match = fits.fullmatch(name)
        if match and file.is_file() and not match[1].startswith("."):
            found.append((name, match[1]))
    return found


def list_dicom(path: Path, data: DataSettings, base: Path) -> Listing:
    """Every series of a folder tree; `data.label` names one mask (NIfTI or DICOM SEG, relative to the spec) of the one series, or the mask
    of each by a template: {folder} is the folder of the series below the root, {name} the last part of it.
    """
    if data.task == "detection" and not data.unlabelled:
        raise SpecError("layout dicom carries no boxes; task detection takes label: none, coco or yolo")
    if data.task == "classification" and not data.unlabelled:
        raise SpecError("layout dicom carries no classes; use csv with a folder per row, or label: none")
    if data.split or data.group:
        raise SpecError("layout dicom knows no split and takes its groups from the patients; leave data.split and data.group out")
    root = folder_at(path)
    templates = [] if data.unlabelled or data.label is None else data.label if isinstance(data.label, list) else [data.label]
    if data.task == "segmentation" and not data.unlabelled and not templates:
        raise SpecError("data.label is missing: the mask file, a template as masks/{name}.nii.gz, or `none` for the victim's prediction")
    every = any("{" in template for template in templates)
    if not every and (absent := [template for template in templates if not (base / template).exists()]):
        raise SpecError(f"data.label: {base / absent[0]} does not exist (relative to the spec)")
    listing = Listing(root)
    # Masks are given by the user by name, so they may lie outside the data root, or inside the tree.
    folders = {relative(file.parent, root) for file in root.rglob("*") if file.is_file()} if every else {"."}
    masks = {folder: [relative(base / _named(template, folder, root), root) for template in templates] for folder in folders}
    for files, patient in series_at(listing, ".", {mask for each in masks.values() for mask in each}, allow_outside=data.allow_outside):
        mine = masks[relative((root / files[0]).parent, root) if every else "."]
        if gone := [mask for mask in mine if not (root / mask).is_file()]:
            listing.refuse(gone[0], "not-found", "The mask that data.label names for a series does not exist.")
            continue
        strata = dicom_strata(root / files[0], data)
        listing.sources.append(Source(files, {"mask": mine} if mine else None, patient, strata=strata))
    if templates and not every and len(listing.sources) != 1:
        raise SpecError(
            f"{root}: {len(listing.sources)} image series for one mask; point data.path at one series, or name the masks by a template, as "
            "masks/{name}.nii.gz"
        )
    shared = [mask for mask, count in Counter(m for s in listing.sources for m in s.masks).items() if count > 1]
    if every and shared:
        raise SpecError(f"{root}: data.label gives {shared[0]} to several series; a folder holds one series each, or name them in a csv")
    return listing


def _named(template: str, folder: str, root: Path) -> str:
    try:
        return filled(template, {"folder": folder, "name": Path(folder).name or root.name})
    except (KeyError, ValueError):
        raise SpecError(f"data.label={template!r}: layout dicom knows {{folder}} and {{name}} of a series") from None


def images_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Image files under a folder, sorted, and the files that are none by their suffix; hidden ones are in neither."""
    found = (path for path in folder.rglob("*") if path.is_file())
    # Only what lies below counts: the way to the folder may lead through `..`.
    seen = sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    images = [path for path in seen if path.name.lower().endswith(IMAGES)]
    return images, [path for path in seen if not path.name.lower().endswith(IMAGES)]


def folder_at(path: Path) -> Path:
    """The path of a folder that exists.  Raises SpecError."""
    if not path.is_dir():
        raise SpecError(f"{path}: no such folder (data.path is relative to the spec)")
    return path
