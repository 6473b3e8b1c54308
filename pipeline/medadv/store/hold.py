"""Is an open file a shard and nothing else? Links, types, storage, names and shapes are looked at before any value of an image is read."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from medadv.common.errors import IntegrityError
from medadv.spec.modality import MODALITIES
from medadv.store.layout import ATTACKABLE, BOX_PARTS, MADE_BY, MEMBER_SCORE, MOST_MEMBERS, PERTURBATION, RESULTS, SAMPLE_ID, WARM, is_move
from medadv_transforms.limits import MAX_VOXELS
from medadv_transforms.units import LATTICES

SMALL = 256 << 20
"""Bytes of an array that is not on the image grid, and of a chunk that holds several samples."""
CHANNELS = 64
PLANES = 256
"""Masks a sample at most: their values are 8-bit classes."""
TEXT = 128
"""Bytes of an id."""
ATTRIBUTE = 1 << 16
FILTERS = {1, 2, 3, 4, 32004, 32015, 32026}
"""deflate, shuffle, Fletcher32, SZIP, LZ4, Zstd, Blosc2: what shards are written with. Others would be looked for among plugins."""
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
SAMPLE = re.compile(SAMPLE_ID.encode())
GROUP = re.compile(rb"[A-Za-z0-9-]{0,64}")
GROUPS = re.compile(rf"attacks|label|attacks/{NAME}(/prediction_(clean|adversarial))?")
ARRAYS = re.compile(rf"{NAME}|label/{NAME}|attacks/{NAME}/{NAME}(/{NAME})?")
AXES = {"yx", "xy", "xyz", "zyx"}
ATTRIBUTES = {
    "format": lambda value: value == "medadv",
    "plan": lambda value: re.fullmatch("[0-9a-f]{64}", value) is not None,
    "modality": lambda value: value in MODALITIES,
    "task": lambda value: value in ("classification", "segmentation", "detection"),
    "unit": lambda value: value in LATTICES,
    "spatial_axes": lambda value: value in AXES,
}
"""Attributes of the root that are texts, and what they may say."""
NUMBERS = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)
NEEDED = ("unit", "spatial_axes")


class ShardError(IntegrityError):
    """A file is no shard, or more than one: it is not read."""


@dataclass(frozen=True)
class Promise:
    """What a corpus's record says that a shard holds."""

    samples: int
    attacks: tuple[str, ...]
    """Sorted."""
    unit: str
    task: str
    universal: bool = False
    """Whether the file is no shard, but the one perturbation of an attack."""


UNIVERSAL = Promise(0, (), "", "", universal=True)


def hold(file: Any, promise: Promise | None = None) -> dict[str, Any]:
    """The arrays (DatasetID by path) of an open file; ShardError unless it is laid out as a shard, by itself and as `promise` has it.

    Nothing but groups and plain arrays, contiguous or chunked, inside the file itself: no links (soft, external, or two to one object), no
    external storage, virtual datasets, references or types of variable length. Arrays have the shapes that the image implies, so that
    nothing small in the file becomes large in memory; ids and names fit their patterns.
    """
    try:
        return _universal(file) if promise is not None and promise.universal else _hold(file, promise)
    except ShardError:
        raise
    except Exception as error:  # whatever a damaged file makes h5py raise
        raise ShardError(f"its structure cannot be read ({type(error).__name__}); run `medadv verify`") from None


def _hold(file: Any, promise: Promise | None) -> dict[str, Any]:
    arrays = dict(_walk(file.id, "", set()))
    _root(file)
    for name, item in arrays.items():
        _plain(name, item)
    image = _shape(arrays, "image")
    unit = file.attrs["unit"]
    if len(image) not in (4, 5) or not 0 < image[1] <= CHANNELS or not 0 < math.prod(image[2:]) <= MAX_VOXELS:
        raise ShardError(f"image has shape {list(image)}, not (n, C, *spatial)")
    if len(file.attrs["spatial_axes"]) != len(image) - 2 or arrays["image"].dtype != LATTICES[unit].dtype:
        axes = file.attrs["spatial_axes"]
        raise ShardError(f"attribute unit is {unit} and spatial_axes {axes}, but image is {arrays['image'].dtype} of {list(image)}")
    for name, item in arrays.items():
        _promised(name, item, image)
    for name in arrays:
        if name.endswith("/offsets"):
            _boxes(name.removesuffix("/offsets"), file, arrays)
    for name, pattern in (("sample_id", SAMPLE), ("group_id", GROUP)):
        if name in arrays and not all(pattern.fullmatch(bytes(value)) for value in file[name][...]):
            raise ShardError(f"{name} holds what is no id")
    if promise is not None:
        attacks = tuple(sorted(file["attacks"])) if "attacks" in file else ()
        if image[0] != promise.samples or attacks != promise.attacks or unit != promise.unit:
            raise ShardError("samples, attacks or unit are not those of the manifest")
        if file.attrs.get("task", promise.task) != promise.task or (promise.task == "detection") != ("label/boxes" in arrays):
            raise ShardError("its task is not that of the manifest")
    return arrays


def _universal(file: Any) -> Any:
    """One array of whole numbers, (C, *spatial), and attributes that say what it is."""
    arrays = dict(_walk(file.id, "", set()))
    _attributes("", file.id)
    if list(file) != [PERTURBATION] or list(arrays) != [PERTURBATION]:
        raise ShardError(f"it holds more, or something else, than one {PERTURBATION}")
    item = arrays[PERTURBATION]
    _plain(PERTURBATION, item)
    shape = item.shape
    if len(shape) not in (3, 4) or not 0 < shape[0] <= CHANNELS or not 0 < math.prod(shape[1:]) <= MAX_VOXELS:
        raise ShardError(f"{PERTURBATION} has shape {list(shape)}, not (C, *spatial)")
    if item.dtype not in (np.int8, np.int16):
        raise ShardError(f"{PERTURBATION} is {item.dtype}, not int8 or int16")
    for key in ("format", "unit"):
        value = file.attrs.get(key)
        if not isinstance(value, str) or not ATTRIBUTES[key](value):
            raise ShardError(f"attribute {key} is {_shown(str(value))}")
    return arrays


def _walk(group: Any, prefix: str, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """(path, dataset) of everything in a group; no link is followed before it is known to be a hard one to something new."""
    for key in list(group):
        name = prefix + key.decode(errors="replace")
        if group.links.get_info(key).type != h5py.h5l.TYPE_HARD:
            raise ShardError(f"{_shown(name)} is a link that leads elsewhere")
        if not (GROUPS.fullmatch(name) or ARRAYS.fullmatch(name)):
            raise ShardError(f"{_shown(name)} is no name of a shard's part")
        item = h5py.h5o.open(group, key)
        info = h5py.h5o.get_info(item)
        if (info.fileno, info.addr) in seen:
            raise ShardError(f"{name} is a second name of something else")
        seen.add((info.fileno, info.addr))
        _attributes(name, item)
        if isinstance(item, h5py.h5d.DatasetID):
            yield name, item
        elif isinstance(item, h5py.h5g.GroupID) and GROUPS.fullmatch(name):
            yield from _walk(item, f"{name}/", seen)
        else:
            raise ShardError(f"{name} is neither an array nor a group of a shard")


def _attributes(name: str, item: Any) -> None:
    """Few, single, small, and numbers or texts."""
    for number in range(h5py.h5a.get_num_attrs(item)):
        attribute = h5py.h5a.open(item, index=number)
        kind = attribute.get_type()
        single = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
        if not single or not isinstance(kind, (h5py.h5t.TypeStringID, *NUMBERS)) or kind.get_size() > ATTRIBUTE:
            key = _shown(attribute.name.decode(errors="replace"))
            raise ShardError(f"attribute {key} of {name or 'the root'} is neither a text nor a number")


def _root(file: Any) -> None:
    _attributes("", file.id)
    for key, allowed in ATTRIBUTES.items():
        value = file.attrs.get(key)
        if (value is None and key in NEEDED) or (value is not None and not (isinstance(value, str) and allowed(value))):
            raise ShardError(f"attribute {key} is {_shown(str(value))}")


def _plain(name: str, item: Any) -> None:
    """Stored in this file, in one piece or in chunks, and of a fixed size."""
    made = item.get_create_plist()
    if made.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED) or made.get_external_count():
        raise ShardError(f"{name} is not stored in this file")
    kind = item.get_type()
    text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    if not text and not isinstance(kind, NUMBERS):
        raise ShardError(f"{name} holds neither numbers nor texts of a fixed length")
    if item.shape is None or item.get_space().get_simple_extent_dims(True) != item.shape:
        raise ShardError(f"{name} has no fixed shape")
    if unknown := {made.get_filter(number)[0] for number in range(made.get_nfilters())} - FILTERS:
        raise ShardError(f"{name} is packed with filters {sorted(unknown)}, which no shard is")


def _promised(name: str, item: Any, image: tuple[int, ...]) -> None:
    """The shape that the image implies; what is not known by its name has a size that does no harm."""
    count, spatial = image[0], image[2:]
    shape, kind, last = item.shape, item.dtype.kind, name.rpartition("/")[2]
    of_boxes = name.startswith(("label/", "attacks/")) and last in BOX_PARTS
    size = math.prod(shape) * item.dtype.itemsize
    if name == "image":
        fits, on_grid = True, True
    elif is_move(name):
        fits, on_grid = shape == image and item.dtype in (np.int8, np.int16), True
    elif name in ("label", "region") or last in ("prediction_clean", "prediction_adversarial"):
        on_grid = shape[-len(spatial) :] == spatial and len(shape) > len(spatial)
        fits = kind in "iub" and shape[:1] == (count,)
        fits &= math.prod(shape[1 : -len(spatial)]) <= PLANES and len(shape) <= 2 + len(spatial) if on_grid else len(shape) in (1, 2)
    else:
        on_grid, rows = False, {"affine": (count, 4, 4), "offsets": (count + 1,)}
        fits = True
        if name in ("sample_id", "group_id"):
            fits = shape == (count,) and kind == "S" and item.dtype.itemsize <= TEXT
        elif name == "affine" or (of_boxes and last == "offsets"):
            fits = shape == rows[last] and kind in "iuf"
        elif of_boxes:
            fits = kind in "iuf" and (len(shape) == 2 and shape[1] == 2 * len(spatial) if last == "boxes" else len(shape) == 1)
        elif last in (*RESULTS, ATTACKABLE):
            fits = shape == (count,) and kind in "iufb"
        elif last in (MADE_BY, WARM):
            fits = shape == (count,) and kind == "u"
        elif last == MEMBER_SCORE:
            fits = len(shape) == 2 and shape[0] == count and 0 < shape[1] <= MOST_MEMBERS and kind == "f"
    if not fits or (not on_grid and size > SMALL):
        raise ShardError(f"{name} is {item.dtype} of {list(shape)} beside images of {list(image)}")
    made = item.get_create_plist()
    if on_grid and made.get_layout() == h5py.h5d.CHUNKED:
        chunk = made.get_chunk()
        if chunk[0] != 1 and math.prod(chunk) * item.dtype.itemsize > SMALL:
            raise ShardError(f"{name} has chunks of {list(chunk)}")


def _boxes(group: str, file: Any, arrays: dict[str, Any]) -> None:
    """Offsets that rise from 0 to the number of boxes."""
    offsets = file[f"{group}/offsets"][...]
    counts = {arrays[f"{group}/{part}"].shape[0] for part in BOX_PARTS if part != "offsets" and f"{group}/{part}" in arrays}
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or counts != {int(offsets[-1])}:
        raise ShardError(f"{group}/offsets do not cut its boxes into samples")


def _shape(arrays: dict[str, Any], name: str) -> tuple[int, ...]:
    if name not in arrays:
        raise ShardError(f"it holds no {name}")
    return tuple(arrays[name].shape)


def _shown(text: str) -> str:
    return ascii(text[:80])
