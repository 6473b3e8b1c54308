"""Victims that are a file: TorchScript and exported programs. Without --trust-code only those that compute and do nothing else."""

import io
import logging
from pathlib import Path

import torch
from torch import nn

from medadv.common.errors import SpecError, first_line
from medadv.common.hashing import hash_bytes
from medadv.victims.sources.archive import NotComputing
from medadv.victims.sources.exported import checked_export
from medadv.victims.sources.torchscript import checked_script

torch_log = logging.getLogger("torch.export")


def from_program(path: Path, trust_code: bool) -> tuple[nn.Module, str]:
    """The network of a program file, and the SHA-256 of the bytes that it was made from.

    trust_code: whether it may do more than compute.  Raises SpecError: it is no program, or one that may.
    """
    exported = path.suffix == ".pt2"
    try:
        data = path.read_bytes()
        checked = io.BytesIO(data) if trust_code else (checked_export if exported else checked_script)(data)
        # What torch tells of an archive that it cannot read is a traceback.
        torch_log.disabled = True
        network = torch.export.load(checked).module() if exported else torch.jit.load(checked, map_location="cpu")
    except NotComputing as error:
        raise SpecError(f"victim.network: {path} may do more than compute ({error}): allow it with --trust-code") from None
    except Exception as error:  # torch raises many types here, all of which mean the same to the user
        raise SpecError(f"victim.network: {path} is neither TorchScript nor an exported program ({first_line(error)})") from None
    finally:
        torch_log.disabled = False
    return network, hash_bytes(data)
