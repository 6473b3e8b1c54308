"""Which windows does a bundle infer with? MONAI's inferers as a spec's window settings."""

from collections.abc import Mapping
from typing import Any

from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.values import Component, Symbol, Unreadable, Value, Words

PLACES = ("inferer", "validate::inferer", "inference::inferer", "val::inferer", "train::inferer")
SLIDING = ("SlidingWindowInferer", "SlidingWindowInfererAdapt")
SIGMA_SCALE = 0.125


def read_inferer(found: Found) -> Words:
    """Window settings; empty where the network takes whole images.  Raises SpecError for what a spec cannot say."""
    place = next((name for name in PLACES if found.configuration.has(name)), None)
    inferer = found.configuration.get(place) if place else None
    if inferer is None:
        return {}
    if not isinstance(inferer, Component):
        why = f"{inferer.key}: {inferer.why}" if isinstance(inferer, Unreadable) else f"{place} is no inferer"
        raise found.configuration.refused(why, code=isinstance(inferer, Unreadable) and inferer.code)
    if inferer.is_monais("SimpleInferer"):
        return {}
    if inferer.is_monais(*SLIDING):
        return windows(found, inferer.named, inferer.key)
    if inferer.is_monais("SliceInferer"):
        return _slices(found, inferer)
    if inferer.target.startswith("scripts.") and inferer.name == "Vista3dInferer":
        return _vista(found, inferer)
    what = "the bundle's own code" if inferer.own else "which has no word in a spec"
    raise found.configuration.refused(f"{inferer.key} is {inferer.target}, {what}")


def windows(found: Found, named: Mapping[str, Value], key: str, default_overlap: float = 0.25) -> Words:
    """Window settings of a sliding-window inferer's arguments."""

    def argument(name: str, default: Value) -> Any:
        value = named.get(name, default)
        if isinstance(value, Symbol):
            # Members of MONAI's enumerations are their names in lower case.
            value = value.name.rpartition(".")[2].lower()
        return found.configuration.plain(value, f"{key}::{name}")

    roi, overlap = argument("roi_size", None), argument("overlap", default_overlap)
    if isinstance(overlap, list) and len(set(overlap)) == 1:
        overlap = overlap[0]
    mode, padding = str(argument("mode", "constant")).lower(), str(argument("padding_mode", "constant")).lower()
    plain = {
        "roi_size": isinstance(roi, list) and all(isinstance(each, int) and each > 0 for each in roi),
        "overlap": isinstance(overlap, int | float) and 0 <= overlap < 1,
        "mode": mode in ("constant", "gaussian"),
        "padding_mode": padding in ("constant", "replicate"),
        "cval": argument("cval", 0.0) == 0,
        "sigma_scale": mode == "constant" or argument("sigma_scale", SIGMA_SCALE) == SIGMA_SCALE,
        "roi_weight_map": named.get("roi_weight_map") is None,
        "process_fn": named.get("process_fn") is None,
    }
    if odd := [name for name, well in plain.items() if not well]:
        raise found.configuration.refused(f"{key}: sliding windows with {odd[0]}={named.get(odd[0])!r}, which has no word in a spec")
    return {
        "window": roi,
        "overlap": float(overlap),
        "window_mode": mode,
        "window_batch": int(argument("sw_batch_size", 1)),
        **({} if padding == "constant" else {"window_padding": padding}),
    }


def _slices(found: Found, inferer: Component) -> Words:
    """A 2D network on volumes: slices along one axis, which becomes the first."""
    axis = found.argument(inferer, "spatial_dim", 0)
    if axis:
        found.step("transpose", [axis, *(other for other in range(3) if other != axis)])
    return {**windows(found, inferer.named, inferer.key), "slicewise": True}


def _vista(found: Found, inferer: Component) -> Words:
    """The inferer of VISTA3D's bundle: of its own code, and without clicks MONAI's sliding windows with their default overlap."""
    if not found.configuration.trust_code:
        raise found.configuration.refused(f"{inferer.key} is {inferer.target}, the bundle's own code", code=True)
    kept = {name: value for name, value in inferer.named.items() if name in ("roi_size", "sw_batch_size")}
    found.note(f"{inferer.name} is taken for what it does without clicks: sliding windows with MONAI's overlap of 0.25")
    return windows(found, kept, inferer.key)
