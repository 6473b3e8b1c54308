"""What does an entry give that only running it can tell? With --trust-code alone, MONAI's own parser is asked."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.common.errors import SpecError, first_line
from medadv.victims.importers.bundle.values import Value
from medadv.victims.sources.code import first_on_path


def evaluated(raw: Mapping[str, Any], key: str, root: Path) -> Value:
    """An entry as MONAI evaluates it.  raw: the configuration.  root: of the bundle, whose own code may be imported.

    Raises SpecError where running it fails.
    """
    from monai.bundle import ConfigParser

    try:
        with first_on_path(root, "scripts"):
            value = ConfigParser(copy.deepcopy(dict(raw))).get_parsed_content(key)
    except Exception as error:  # foreign code raises what it likes
        raise SpecError(f"{key} cannot be evaluated ({first_line(error)})") from None
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    return value
