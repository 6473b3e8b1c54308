"""Victims that are a file: TorchScript and exported programs."""

from pathlib import Path

import torch
from torch import nn

from medadv.common.errors import SpecError, first_line


def from_program(path: Path) -> nn.Module:
    try:
        if path.suffix == ".pt2":
            return torch.export.load(path).module()
        return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:  # torch raises many types here, all of which mean the same to the user
        raise SpecError(f"victim.network: {path} is neither TorchScript nor an exported program ({first_line(error)})") from None
