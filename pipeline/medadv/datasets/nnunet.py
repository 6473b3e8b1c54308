"""nnU-Net's raw data format, version 2: imagesTr, labelsTr, dataset.json."""

from pathlib import Path
from typing import Any

from medadv.common.errors import SpecError
from medadv.datasets.label_files import read_json
from medadv.datasets.source import Listing, Source, counted
from medadv.spec.data import DataSettings

CHANNEL = "_0000"
"""End of the name of a case's first channel."""


def list_nnunet(path: Path, data: DataSettings) -> Listing:
    """Cases of imagesTr with their labelsTr; `split.use: Ts` takes imagesTs and labelsTs. Classes are those of dataset.json, in order.

    path: the data set's folder, or its dataset.json.  Pixels of the class `ignore` count nowhere. Regions (several values a class) take
    data.label_map.
    """
    if data.task != "segmentation":
        raise SpecError(f"layout nnunet gives masks, so task {data.task} cannot use it")
    if data.group or data.image or (data.label is not None and not data.unlabelled):
        raise SpecError("layout nnunet finds images and masks by itself; leave data.group, data.image and data.label out (or label: none)")
    file = path / "dataset.json" if path.is_dir() else path
    document = read_json(file)
    use = data.split.use if data.split else "Tr"
    if use not in ("Tr", "Ts"):
        raise SpecError(f"data.split.use={use!r}: layout nnunet has Tr and Ts")
    ending, channels = document.get("file_ending"), document.get("channel_names")
    if not isinstance(ending, str) or not ending or not isinstance(channels, dict) or not isinstance(document.get("labels"), dict):
        raise SpecError(f"{file}: no dataset.json of nnU-Net version 2 (channel_names, labels, file_ending); version 1 is layout decathlon")
    if len(channels) != 1 and ending.lower().endswith((".nii.gz", ".nii")):
        raise SpecError(f"{file}: {len(channels)} channels; medadv reads volumes of one")
    names, ignore = _labels(file, document["labels"], data)
    listing = Listing(file.parent, classes=names)
    folder = listing.root / f"images{use}"
    if not folder.is_dir():
        raise SpecError(f"{folder}: no such folder")
    files = sorted(each.name for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    cases = [name for name in files if name.endswith(f"{CHANNEL}{ending}")]
    listing.skipped([name for name in files if name not in cases])
    for name in cases:
        case = name.removesuffix(f"{CHANNEL}{ending}")
        wanted = [f"images{use}/{name}", *([] if data.unlabelled else [f"labels{use}/{case}{ending}"])]
        located = [listing.locate(each, data.allow_outside) for each in wanted]
        if None not in located:
            image, *masks = (each for each in located if each)
            label = {"mask": masks, **({} if ignore is None else {"ignore": ignore})} if masks else None
            listing.sources.append(Source((image,), label))
    stated = document.get("numTraining")
    if use == "Tr" and isinstance(stated, int) and stated != len(cases):
        listing.notes.append(f"dataset.json states {counted(stated, 'training case')}, the folder holds {len(cases)}")
    known = {name.removesuffix(f"{CHANNEL}{ending}") for name in cases}
    beside = listing.root / f"labels{use}"
    alone = [each for each in beside.glob(f"*{ending}") if each.name.removesuffix(ending) not in known] if beside.is_dir() else []
    if alone:
        listing.notes.append(f"{counted(len(alone), 'mask')} without an image")
    return listing


def _labels(file: Path, labels: dict[str, Any], data: DataSettings) -> tuple[list[str] | None, int | None]:
    """Names of the classes from 1, and the value that is ignored."""
    values = {name: value for name, value in labels.items() if name != "ignore"}
    ignore = labels.get("ignore")
    if ignore is not None and (not isinstance(ignore, int) or not 0 < ignore <= 255):
        raise SpecError(f"{file}: the label `ignore` is no number from 1 to 255")
    if data.label_map is not None:
        return None, ignore
    if not all(isinstance(value, int) for value in values.values()):
        raise SpecError(f"{file}: labels that are regions (several values a class) take data.label_map and head: sigmoid")
    if sorted(values.values()) != list(range(len(values))):
        raise SpecError(f"{file}: labels are not numbered 0, 1, 2, ... without a gap; name them in data.label_map")
    return [name for name, value in sorted(values.items(), key=lambda item: item[1]) if value], ignore
