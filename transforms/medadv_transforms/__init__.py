"""MONAI transforms of medadv: loading, geometry checks, cropping, units, differentiable normalisation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .colour import read_colour
    from .ct import CTFacts, count_slices, inspect_ct, read_ct_slice, read_ct_volume
    from .dictionary import CropBlackBorderd, CropFieldOfViewd, LoadColourd, LoadCTd, RestoreBoxesd
    from .errors import REASONS, InputError
    from .loaded import LoadedImage
    from .mask_volume import MaskVolume
    from .masks import open_mask, read_mask
    from .normalize import Normalize, Window
    from .placement import Placement
    from .resample import restore_grid
    from .series import Series, find_series
    from .slices import CTSlices, open_slices
    from .units import LATTICES, Lattice, to_lattice

__all__ = [
    "LATTICES",
    "REASONS",
    "CTFacts",
    "CTSlices",
    "CropBlackBorderd",
    "CropFieldOfViewd",
    "InputError",
    "Lattice",
    "LoadCTd",
    "LoadColourd",
    "LoadedImage",
    "MaskVolume",
    "Normalize",
    "Placement",
    "RestoreBoxesd",
    "Series",
    "Window",
    "count_slices",
    "find_series",
    "inspect_ct",
    "open_mask",
    "open_slices",
    "read_colour",
    "read_ct_slice",
    "read_ct_volume",
    "read_mask",
    "restore_grid",
    "to_lattice",
]

# Public name -> module that defines it: imported on first use (PEP 562), so that a command line's --help stays quick.
_HOMES = {
    "LATTICES": "units",
    "REASONS": "errors",
    "CTFacts": "ct",
    "CTSlices": "slices",
    "CropBlackBorderd": "dictionary",
    "CropFieldOfViewd": "dictionary",
    "InputError": "errors",
    "Lattice": "units",
    "LoadCTd": "dictionary",
    "LoadColourd": "dictionary",
    "LoadedImage": "loaded",
    "MaskVolume": "mask_volume",
    "Normalize": "normalize",
    "Placement": "placement",
    "RestoreBoxesd": "dictionary",
    "Series": "series",
    "Window": "normalize",
    "count_slices": "ct",
    "find_series": "series",
    "inspect_ct": "ct",
    "open_mask": "masks",
    "open_slices": "slices",
    "read_colour": "colour",
    "read_ct_slice": "ct",
    "read_ct_volume": "ct",
    "read_mask": "masks",
    "restore_grid": "resample",
    "to_lattice": "units",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
