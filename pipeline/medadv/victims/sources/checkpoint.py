"""What does a file of weights hold? Read as tensors and plain values, without running anything that the file says."""

import _codecs
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, load_file

from medadv.common.errors import SpecError, first_line

_scalar: Any = np.float64(0).__reduce__()[0]  # the function that pickles of numpy's numbers call; numpy names it in private
NUMBERS: list[Any] = [
    np.dtype,
    _codecs.encode,
    _scalar,
    (_scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 named it
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
]
"""What rebuilds a number of numpy, such as a best score that training kept beside its weights: no text, objects or records."""


def read_checkpoint(path: Path, data: bytes | None = None) -> Any:
    """Tensors by name, or the dictionaries that hold them.

    data: of the file, where it was read already.  Raises SpecError where it cannot be read, or only by running code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path) if data is None else load(data)
        with torch.serialization.safe_globals(NUMBERS):
            return torch.load(path if data is None else io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not any(refused in str(error) for refused in ("Unsupported global", "Can only build")):
            raise SpecError(f"victim.weights: {path} cannot be read as weights (it is no checkpoint, or damaged)") from None
        raise SpecError(
            f"victim.weights: {path} holds Python objects beside its tensors, such as a whole pickled module, and reading them would run "
            "code. Where you trust it, save the tensors alone: torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW)"
        ) from None
    except Exception as error:  # safetensors and torch raise types of their own for damaged files
        raise SpecError(f"victim.weights: {path} cannot be read as weights ({first_line(error)})") from None
