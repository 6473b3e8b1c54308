"""What lies in a bundle's folder? Paths that stay inside it, configurations as data, and small checkpoints as plain values."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from medadv.common.errors import SpecError, first_line
from medadv.spec.safe_yaml import read_yaml
from medadv.victims.importers.bundle.values import MOST_VALUES, NotReadable, Value, Words

MOST_BYTES = 4 << 20
"""Of a configuration."""
MOST_CHECKPOINT_BYTES = 64 << 20
"""Of a checkpoint whose values become settings."""
KINDS = (".json", ".yaml", ".yml")
ARRAYS: list[Any] = [
    np.ndarray,
    np.dtype,
    *((np.empty(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
]
"""What a pickled array of numbers consists of: none of it runs anything."""


class Folder:
    """A bundle's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def inside(self, path: str) -> Path:
        """A path in the bundle.  Raises NotReadable where it leads out of it, also through links."""
        try:
            whole = Path(os.path.normpath(self.root / path))
            stays = whole.resolve().is_relative_to(self.root)
        except (OSError, ValueError, RuntimeError):
            raise NotReadable(f"{path!r} is no path") from None
        if not stays:
            link = whole.is_relative_to(self.root)
            raise NotReadable(f"{path!r} leads out of the bundle" + (" as a link does: put the file itself in its place" if link else ""))
        return whole

    def tensors(self, path: str) -> Value:
        """What a checkpoint holds, as lists and numbers; nothing in it is run."""
        file = self.inside(path)
        if not file.is_file():
            raise NotReadable(f"no file {path}")
        if file.stat().st_size > MOST_CHECKPOINT_BYTES:
            raise NotReadable(f"{path} holds more than {MOST_CHECKPOINT_BYTES >> 20} MiB, too much for settings")
        try:
            with torch.serialization.safe_globals(ARRAYS):
                held = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for damaged and for foreign files
            raise NotReadable(f"{path} cannot be read as numbers alone ({first_line(error)})") from None
        return _numbers(held, path)


def _numbers(held: Any, place: str) -> Value:
    if isinstance(held, Mapping):
        return {str(name): _numbers(each, f"{place}[{name!r}]") for name, each in held.items()}
    if isinstance(held, list | tuple):
        return [_numbers(each, place) for each in held]
    if isinstance(held, torch.Tensor | np.ndarray | np.generic):
        size = held.numel() if isinstance(held, torch.Tensor) else held.size
        if size > MOST_VALUES or (isinstance(held, np.ndarray | np.generic) and held.dtype.kind not in "biuf"):
            raise NotReadable(f"{place} is no list of numbers that a setting could hold")
        return held.tolist()
    if isinstance(held, bool | int | float | str | None):
        return held
    raise NotReadable(f"{place} is {type(held).__name__}")


def read_configuration(path: Path) -> Words:
    """A configuration file as data.  Raises SpecError where it is none."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise SpecError(f"{path} has more than {MOST_BYTES >> 20} MiB, which no configuration has")
        text = data.decode()
        held = json.loads(text) if path.suffix.lower() == ".json" else read_yaml(text)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8 text'})") from None
    except (ValueError, yaml.YAMLError, RecursionError):
        raise SpecError(f"{path} is no valid {path.suffix.lstrip('.').upper()}") from None
    if not isinstance(held, dict):
        raise SpecError(f"{path} holds no configuration")
    return {str(name): value for name, value in held.items()}


def find_configuration(bundle: Path, name: str | None) -> Path:
    """The file that says how a bundle infers: `name` in its `configs/`, else inference, else train.  Raises SpecError: there is none."""
    names = (name,) if name else ("inference", "train")
    for each in names:
        for kind in ("", *KINDS) if name else KINDS:
            found = bundle / "configs" / f"{each}{kind}"
            if found.suffix in KINDS and found.is_file() and found.parent.resolve() == (bundle / "configs").resolve():
                return found
    if name:
        raise SpecError(f"configuration={name!r}: no such file in {bundle / 'configs'}")
    raise SpecError(f"{bundle} is no MONAI bundle: it has neither configs/inference.json (or .yaml) nor configs/train.json (or .yaml)")
