"""How does a universal perturbation lie in HDF5? One array in a file of its own, looked at as a stranger's before it is read."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from medadv.common.files import sync
from medadv.datasets.labels import Array
from medadv.store.codecs import filters
from medadv.store.examine import examined
from medadv.store.hold import UNIVERSAL, ShardError, hold
from medadv.store.layout import BRICK, FORMAT, FORMAT_VERSION, PERTURBATION
from medadv.store.writer import LIBVER

Value = str | int | float


@dataclass(frozen=True, eq=False)
class Universal:
    """perturbation: (C, *spatial) int8 or int16, stored units.  attributes: of the file."""

    perturbation: Array
    attributes: dict[str, Value]


def write_universal(path: Path, perturbation: Array, unit: str, epsilon: float, parameters: str, samples: int) -> None:
    """Write the file anew and flush it; the same arguments give the same bytes.

    perturbation: (C, *spatial) in its stored type.  parameters: JSON of the attack's settings.  samples: how many it was fitted to.
    """
    shape = perturbation.shape
    chunks = (1, *(min(b, n) for b, n in zip(BRICK, shape[1:], strict=True))) if len(shape) == 4 else (1, *shape[1:])
    with h5py.File(path, "w", libver=LIBVER) as file:
        packed = filters(PERTURBATION, perturbation.dtype, chunks, "gzip")
        file.create_dataset(PERTURBATION, data=perturbation, track_times=False, **packed)
        said = {"format": FORMAT, "format_version": FORMAT_VERSION, "unit": unit, "attack": "universal", "parameters": parameters}
        for key, value in {**said, "epsilon": float(epsilon), "norm": "linf", "fitted_samples": samples}.items():
            file.attrs[key] = value
    sync(path)


def read_universal(path: Path) -> Universal:
    """The file, whoever wrote it. ShardError where it is no such file or damaged, FileNotFoundError where there is none."""
    (verdict,) = examined([(path, UNIVERSAL)])
    if verdict is not None:
        raise ShardError(f"{path}: {verdict}")
    try:
        with h5py.File(path, "r") as file:
            hold(file, UNIVERSAL)
            values = {str(key): value.item() if isinstance(value, np.generic) else value for key, value in file.attrs.items()}
            return Universal(np.asarray(file[PERTURBATION][...]), values)
    except ShardError as error:
        raise ShardError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError):
        raise ShardError(f"{path}: HDF5 cannot read it; run `medadv verify`") from None
