"""Which steps and which stored grid do a bundle's preprocessing transforms mean? One reader for each transform that a spec can say."""

from typing import Any

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle.arguments import Reader, check_arguments, word
from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.placing import PLACING
from medadv.victims.importers.bundle.probing import leaves_images_alone
from medadv.victims.importers.bundle.values import Component, Symbol, Unreadable, Value, components

PLACES = ("preprocessing", "validate::preprocessing", "inference::preprocessing", "val::preprocessing", "train::preprocessing")
LABELS = ("label", "labels", "mask", "seg", "box", "boxes")


def read_transforms(found: Found) -> None:
    """Steps, stored grid and notes of the preprocessing.  Raises SpecError for what a spec cannot say, by name."""
    place = next((name for name in PLACES if found.configuration.has(name)), None)
    if place is None:
        raise found.configuration.refused(f"it has no preprocessing (looked for {', '.join(PLACES)})")
    composed = found.configuration.get(place)
    transforms = _flat(found, composed, place)
    _choose_image(found, transforms)
    if isinstance(composed, Component):
        _refuse_lazy(found, composed, transforms)
    for transform in transforms:
        _read(found, transform)
    if not found.steps:
        found.step("identity", True)


def _flat(found: Found, value: Value, key: str) -> list[Component]:
    """The transforms in order, those inside of others too."""
    if isinstance(value, Unreadable):
        value = found.configuration.plain(value, key)
    if isinstance(value, list):
        return [transform for number, each in enumerate(value) for transform in _flat(found, each, f"{key}::{number}")]
    if isinstance(value, Component) and (value.is_monais("Compose") or value.target == "torchvision.transforms.Compose"):
        return _flat(found, value.argument("transforms", []), f"{value.key}::transforms")
    if isinstance(value, Component):
        return [value]
    if value is None:
        return []
    raise found.configuration.refused(f"{key} is no transform")


def _refuse_lazy(found: Found, composed: Component, transforms: list[Component]) -> None:
    """Raise SpecError where MONAI resamples once for several transforms, and other numbers come out."""
    lazy = found.configuration.plain(composed.named.get("lazy", False), f"{composed.key}::lazy")
    if lazy is None:
        # Then each transform says it for itself; otherwise none is asked, nor is a chain inside of this one.
        lazy = any(found.argument(each, "lazy", False) for each in components(composed))
    if not lazy:
        return
    if composed.argument("overrides"):
        raise _unsaid(found, composed, f"with lazy={lazy} and overrides")
    for each in transforms:
        if base_name(each) in RESAMPLED_OTHERWISE and found.image in found.keys(each):
            raise _unsaid(found, composed, f"with lazy={lazy}, by which {each.name} resamples in another way,")


def _choose_image(found: Found, transforms: list[Component]) -> None:
    loading = [each for each in transforms if base_name(each) == "LoadImage"]
    images = [key for each in loading for key in found.keys(each) if key.lower() not in LABELS]
    images = list(dict.fromkeys(images))
    if len(images) > 1 and "image" not in images:
        raise found.configuration.refused(
            f"one input is made of {len(images)} images of a patient ({', '.join(images)}), and a sample here is one image: "
            "an attack would have to change them all at once"
        )
    found.image = "image" if "image" in images or not images else images[0]
    if found.picture:
        readers = [_name_of(each.argument("reader")) for each in loading]
        straight = [found.argument(each, "reverse_indexing", True) is False for each in loading]
        if readers and readers[0].lower() not in ("", "pilreader"):
            found.note(f"pictures are taken to be read x first, as MONAI's PILReader does; the bundle says {readers[0]}")
        if not any(straight):
            found.step("transpose", [1, 0])


def _name_of(reader: Value) -> str:
    """A reader as a word, however it is named."""
    name = reader.name if isinstance(reader, Symbol | Component) else reader if isinstance(reader, str) else ""
    return name.rpartition(".")[2]


def base_name(transform: Component) -> str:
    """The name without the letter that says that it takes dictionaries."""
    name = transform.name
    for ending in ("Dict", "d", "D"):
        if name.endswith(ending) and name.removesuffix(ending) in READERS:
            return name.removesuffix(ending)
    return name


def _read(found: Found, transform: Component) -> None:
    name = base_name(transform)
    own = transform.own
    reader = None if own else READERS.get(name)
    if own and found.configuration.trust_code and leaves_images_alone(found, transform):
        found.note(f"{transform.name} is the bundle's own: it was tried on a small image, and left it as it was")
        return
    if own:
        more = ", and it changes the image, which has no word in a spec" if found.configuration.trust_code else ""
        raise found.configuration.refused(f"{transform.key} is {transform.target}, the bundle's own code{more}", code=True)
    if name not in NO_KEYS and "keys" in transform.named and found.image not in found.keys(transform):
        return
    if reader is None:
        raise found.configuration.refused(f"{transform.key} is {transform.name}, which has no word in a spec")
    odd = [each.why for each in (transform.named.get("keys"),) if isinstance(each, Unreadable)]
    if odd:
        raise found.configuration.refused(f"{transform.key}::keys {odd[0]}")
    try:
        check_arguments(found, transform, reader)
        reader.read(found, transform)
    except (TypeError, ValueError, LookupError):
        raise found.configuration.refused(f"{transform.key}: {transform.name} has arguments of another kind than MONAI's") from None


def _scale_range(found: Found, transform: Component) -> None:
    low, high, lower, upper = (found.argument(transform, name) for name in ("a_min", "a_max", "b_min", "b_max"))
    clip = bool(found.argument(transform, "clip", False))
    if low is None or high is None or lower is None or upper is None:
        raise _unsaid(found, transform, "without b_min and b_max")
    found.step("scale", [low, high, lower, upper], clip=clip)


def _scale(found: Found, transform: Component) -> None:
    low, high = found.argument(transform, "minv", 0.0), found.argument(transform, "maxv", 1.0)
    if transform.argument("factor") is not None:
        raise _unsaid(found, transform, "with a factor")
    found.step("minmax", [low, high], per_channel=bool(found.argument(transform, "channel_wise", False)))


def _normalize(found: Found, transform: Component) -> None:
    less, over = found.argument(transform, "subtrahend"), found.argument(transform, "divisor")
    nonzero = bool(found.argument(transform, "nonzero", False))
    if less is None and over is None:
        found.step("zscore", "image", nonzero=nonzero, per_channel=bool(found.argument(transform, "channel_wise", False)))
        return
    if less is None or over is None:
        raise _unsaid(found, transform, "with one of subtrahend and divisor")
    constants = {"mean": _list(less), "std": [value or 1.0 for value in _list(over)]}
    found.step("zscore", constants, nonzero=nonzero)


def _list(value: Any) -> list[float]:
    return [float(each) for each in value] if isinstance(value, list) else [float(value)]


def _clip(found: Found, transform: Component) -> None:
    low, high = found.argument(transform, "minv"), found.argument(transform, "maxv")
    if low is None or high is None:
        raise _unsaid(found, transform, "with one bound")
    found.step("clip", [low, high])


def _repeat(found: Found, transform: Component) -> None:
    found.step("channels", {"repeat": int(found.argument(transform, "repeats"))})


def _guidance(found: Found, transform: Component) -> None:
    """Clicks of DeepEdit: nobody makes any, which is an empty channel for every label."""
    labels = {
        str(name): None
        for each in components(found.configuration.get("preprocessing"))
        if isinstance(each.named.get("label_names"), dict)
        for name in each.named["label_names"]
    }
    if not labels:
        raise _unsaid(found, transform, "without label_names")
    found.step("channels", {"zeros": len(labels)})
    found.note(f"clicks: none, so the channels of {', '.join(labels)} are empty")


def _load(found: Found, transform: Component) -> None:
    """Reading leaves an image what it is, unless its reader is told otherwise."""
    reader = transform.argument("reader")
    if isinstance(reader, Component) and reader.named:
        raise _unsaid(found, transform, f"with {next(iter(reader.named))} of its {reader.name}")
    for each in reader if isinstance(reader, list) else [reader]:
        name = word(each)
        if isinstance(each, Unreadable) or ("." in name and not name.startswith("monai.")):
            raise _unsaid(found, transform, f"with the reader {name}, none of MONAI's")


def _nothing(found: Found, transform: Component) -> None:
    """A transform that does nothing to the numbers of an image."""


def _unsaid(found: Found, transform: Component, how: str) -> SpecError:
    return found.configuration.refused(f"{transform.key} is {transform.name} {how}, which has no word in a spec")


RESAMPLED_OTHERWISE = ("Resize", "SpatialPad")
"""Where lazy: sizes by interpolation whatever their mode, at once with the spacing; and padding continues the edge of what is resampled."""
NO_KEYS = ("AddGuidanceFromPointsDeepEdit", "ResizeGuidanceMultipleLabelDeepEdit")
SAVED = ("image_only", "simple_keys", "prune_meta_pattern", "prune_meta_sep", "overwriting", "expanduser")
SHOWN = ("prefix", "data_type", "data_shape", "value_range", "data_value", "meta_info", "additional_info", "name")
READERS: dict[str, Reader] = {
    **PLACING,
    "LoadImage": Reader(_load, ("reader", "ensure_channel_first", "reverse_indexing", *SAVED)),
    "EnsureChannelFirst": Reader(_nothing, ("strict_check", "channel_dim")),
    "AddChannel": Reader(_nothing),
    "AsChannelFirst": Reader(_nothing, ("channel_dim",)),
    "EnsureType": Reader(_nothing, ("data_type",)),
    "ToTensor": Reader(_nothing),
    "ToNumpy": Reader(_nothing),
    "ToDevice": Reader(_nothing, ("non_blocking",)),
    "Identity": Reader(_nothing),
    "DeleteItems": Reader(_nothing, ("sep", "use_re")),
    "SelectItems": Reader(_nothing),
    "SimulateDelay": Reader(_nothing, ("delay_time",)),
    "DataStats": Reader(_nothing, SHOWN),
    "FromMetaTensor": Reader(_nothing, ("data_type",)),
    "ToMetaTensor": Reader(_nothing),
    "VistaPreTransform": Reader(_nothing, ("special_index", "labels_dict", "subclass")),
    "AddGuidanceFromPointsDeepEdit": Reader(_nothing, ("ref_image", "guidance", "label_names")),
    "ResizeGuidanceMultipleLabelDeepEdit": Reader(_nothing, ("ref_image", "guidance")),
    "ScaleIntensityRange": Reader(_scale_range, ("a_min", "a_max", "b_min", "b_max", "clip")),
    "ScaleIntensity": Reader(_scale, ("minv", "maxv", "factor", "channel_wise")),
    "NormalizeIntensity": Reader(_normalize, ("subtrahend", "divisor", "nonzero", "channel_wise")),
    "ClipIntensity": Reader(_clip, ("minv", "maxv")),
    "RepeatChannel": Reader(_repeat, ("repeats",)),
    "AddGuidanceSignalDeepEdit": Reader(_guidance, ("guidance", "sigma", "number_intensity_ch")),
    "CastToType": Reader(_nothing),
}
