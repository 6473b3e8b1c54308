"""What are a bundle's images and answers called? Task, modality and classes, by its metadata."""

from medadv.spec.modality import MODALITIES
from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.networks import FoundNetwork
from medadv.victims.importers.bundle.values import Words
from medadv.victims.sources.monai_networks import CLASSIFICATION

Metadata = Words


def read_task(metadata: Metadata, network: FoundNetwork) -> str:
    """classification or segmentation."""
    told = str(_output(metadata).get("format", "")).lower()
    if "segment" in told:
        return "segmentation"
    short = network.network.partition(":")[2].lower()
    known = "class" in told or (network.network.startswith("monai:") and short in {name.lower() for name in CLASSIFICATION})
    return "classification" if known else "segmentation"


def excludes(metadata: Metadata, network: FoundNetwork) -> bool:
    """Whether the metadata names background among the network's outputs: then a voxel is one of them."""
    ordered, numbered = _names(metadata)
    several = len(ordered) > 1 and len(ordered) == (network.classes or _output(metadata).get("num_channels") or len(ordered))
    return numbered and several and "background" in [name.lower() for name in ordered]


def _names(metadata: Metadata) -> tuple[list[str], bool]:
    """What the metadata calls the outputs, in the order of their numbers, and whether these are 0, 1, 2, …"""
    told = _output(metadata)
    names = told.get("channel_def") or told.get("label_def") or {}
    if not isinstance(names, dict) or not all(str(key).isdecimal() for key in names):
        names = {}
    ordered = [str(names[key]) for key in sorted(names, key=lambda key: int(str(key)))]
    return ordered, sorted(int(str(key)) for key in names) == list(range(len(ordered)))


def read_names(found: Found, metadata: Metadata, network: FoundNetwork, task: str, head: str) -> Words:
    """Names of the classes as `data` takes them: a list in order, or source values by name; empty where the bundle gives none.

    Raises SpecError where one mask a class is answered and one of them is background, which no mask value says.
    """
    ordered, numbered = _names(metadata)
    if task == "classification":
        return {"classes": ordered} if len(ordered) > 1 else {}
    if head == "sigmoid":
        outputs = network.classes or _output(metadata).get("num_channels") or len(ordered)
        # VISTA3D answers what it is asked for, whatever its metadata number.
        own = numbered and outputs == len(ordered) and network.network != "monai:vista3d132"
        _say_channels(found, ordered if own else [])
    if head != "softmax" or len(set(ordered)) != len(ordered) or not numbered:
        return {}
    if ordered and ordered[0].lower() == "background":
        found.note(
            f"masks are taken to number classes as the bundle does: {', '.join(f'{n} {name}' for n, name in enumerate(ordered[:9]))}"
        )
        return {"label_map": {name: [number] for number, name in enumerate(ordered) if number}}
    return {}


def _say_channels(found: Found, names: list[str]) -> None:
    """A line that says which mask value stands for which output of a sigmoid head.  names: of the outputs; empty where unknown."""
    if "background" in [name.lower() for name in names]:
        raise found.configuration.refused(
            f"postprocessing is a sigmoid for each output, and metadata.json names one of them background ({', '.join(names)}): mask "
            "value 1 would be compared with the first output, and background be scored as a class. If the classes exclude one another, "
            "copy the configuration beside itself with softmax and argmax in postprocessing, and name it in victim.configuration; if that "
            "output is a class of its own, give it another name in channel_def"
        )
    known = ", ".join(f"{number} {name}" for number, name in enumerate(names[:9], 1)) or "1 the first, 2 the second, and so on"
    found.note(f"mask values are taken to stand for the outputs in order, one mask each: {known}; where yours do not, write data.label_map")


def read_modality(metadata: Metadata) -> str | None:
    """The modality, where the bundle says it in words that are known."""
    told = str(_input(metadata).get("modality", "")).lower()
    if told in MODALITIES:
        return told
    described = " ".join(str(metadata.get(key, "")) for key in ("name", "task", "description")).lower()
    found = [name for name, rules in MODALITIES.items() if any(word in described for word in rules.words)]
    return found[0] if len(found) == 1 and is_picture(metadata, None) else None


def is_picture(metadata: Metadata, network: FoundNetwork | None) -> bool:
    """Whether the bundle's images are colour pictures."""
    image = _input(metadata)
    dims = network.spatial_dims if network else None
    channels = image.get("num_channels") or (network.channels if network else None)
    shape = image.get("spatial_shape")
    dims = dims or (len(shape) if isinstance(shape, list) else None)
    return str(image.get("format", "")).upper() == "RGB" or (dims == 2 and channels == 3)


def _input(metadata: Metadata) -> Words:
    return _first(metadata, "inputs")


def _output(metadata: Metadata) -> Words:
    return _first(metadata, "outputs")


def _first(metadata: Metadata, side: str) -> Words:
    formats = metadata.get("network_data_format")
    entries = formats.get(side) if isinstance(formats, dict) else None
    named = [each for each in entries.values() if isinstance(each, dict)] if isinstance(entries, dict) else []
    return named[0] if named else {}
