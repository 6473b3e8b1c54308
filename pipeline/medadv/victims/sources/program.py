"""Victims that are a file: TorchScript and exported programs. Without --trust-code only those that compute and do nothing else."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from medadv.common.errors import SpecError, first_line
from medadv.common.hashing import hash_bytes
from medadv.victims.sources.archive import NotComputing
from medadv.victims.sources.exported import checked_export
from medadv.victims.sources.torchscript import checked_script

torch_log = logging.getLogger("torch.export")
EXPORTED = ".pt2"
REPEATED = 1e-4
"""Of the largest answer, what two answers to one image may differ by: the order of sums on a GPU makes 1e-6."""
BESIDE = 1e-2
"""And what they may differ by with another image beside it: other kernels sum in another order, which makes 1e-5, and 1e-3 in TF32."""
DYNAMIC = (
    "export it with a free batch axis of its input and two images or more as the example: "
    "torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},))"
)


def from_program(path: Path, trust_code: bool) -> tuple[nn.Module, str]:
    """The network of a program file, and the SHA-256 of the bytes that it was made from.

    trust_code: whether it may do more than compute.  Raises SpecError: it is no program, or one that may.
    """
    exported = path.suffix == EXPORTED
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


def check_answers(answer: Callable[[Tensor], Tensor], name: str, inputs: Tensor, one_at_a_time: bool) -> None:
    """Whether a program answers several images as it answers each: what was traced or exported in training mode does not.

    Args:
        answer: inputs (n, C, *spatial) to logits (n, K, ...).
        name: of the program's file, as the spec has it.
        inputs: of the shape and on the device that one image has, (1, C, *spatial).
        one_at_a_time: whether the program will never be asked about two at once.

    Raises SpecError, saying how to trace or export it.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((2, *inputs.shape[1:]), generator=generator).to(inputs)
    # The second is spread unlike the first, so that statistics of the batch change what the first is answered.
    one, other = noise[:1], 1 + 2 * noise[1:]
    how, before = ("exported", "exporting") if Path(name).suffix == EXPORTED else ("traced", "tracing")
    advice = f"call .eval() on the network before {before} it"
    with torch.no_grad():
        alone = answer(one)
        if _differ(alone, answer(one), REPEATED):
            raise SpecError(f"victim.network: {name} answers one image in two ways: it was {how} in training mode (dropout); {advice}")
        try:
            together = answer(torch.cat([one, other]))
        except torch.OutOfMemoryError:
            return  # what fits is found elsewhere
        except Exception as error:  # whatever a program raises for a batch that it was not made for
            if one_at_a_time:
                return
            fixed = DYNAMIC if how == "exported" else "trace it with two images or more, and without sizes that are fixed in its code"
            raise SpecError(f"victim.network: {name} was {how} for a batch of 1: {fixed} ({first_line(error)})") from None
    if len(together) != 2 or _differ(alone, together[:1], BESIDE):
        raise SpecError(
            f"victim.network: {name} answers an image differently when another lies beside it: it was {how} in training mode (batch norm); "
            f"{advice}"
        )


def _differ(one: Tensor, other: Tensor, share: float) -> bool:
    return one.shape != other.shape or bool((one - other).abs().max() > share * one.abs().max())
