"""Weights from safetensors or a checkpoint, held against the network."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from medadv.common.errors import SpecError, first_line
from medadv.common.hashing import hash_bytes, hash_file
from medadv.spec.victim import VictimSettings
from medadv.victims.sources.checkpoint import read_checkpoint
from medadv.victims.sources.matching import match

WHOLE = 1 << 30
"""Bytes of a file that is held while it is read; a larger one is hashed before and after."""


@dataclass(frozen=True)
class Weights:
    """What was loaded.  sha256: of the file.  note: how the network's tensors were found in it, where their names are not its own."""

    sha256: str
    note: str | None


def load_weights(network: nn.Module, settings: VictimSettings, path: Path) -> Weights:
    """Load a file into the network. Raises SpecError where it is none, or does not fit."""
    if not path.is_file():
        raise SpecError(f"victim.weights: no such file {path}")
    try:
        # What is hashed is what is loaded, also where the file is rewritten meanwhile.
        data = path.read_bytes() if path.stat().st_size <= WHOLE else None
        digest = hash_file(path) if data is None else hash_bytes(data)
        found = match(network.state_dict(), read_checkpoint(path, data), settings.weights_key)
    except OSError as error:
        raise SpecError(f"victim.weights: {path} cannot be read as weights ({first_line(error)})") from None
    except ValueError as error:
        raise SpecError(f"victim: {path} does not fit {settings.network} with these arguments: tensors {error}") from None
    own = {name for name, parameter in network.named_parameters() if parameter.is_floating_point()}
    whole = [name for name, value in found.tensors.items() if name in own and _is_whole(value)]
    if whole:
        raise SpecError(
            f"victim: {path} holds whole numbers ({found.tensors[whole[0]].dtype}) in {whole[0]}{', …' if len(whole) > 1 else ''}, as of "
            "quantized weights, which mean nothing without their scales: give the checkpoint from before quantization"
        )
    if broken := [name for name, value in found.tensors.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise SpecError(f"victim: {path} holds values that are no numbers, in {broken[0]}" + (", …" if len(broken) > 1 else ""))
    # What `match` let pass as missing are counters, which no answer depends on.
    network.load_state_dict(found.tensors, strict=False)
    if data is None and hash_file(path) != digest:
        raise SpecError(f"victim.weights: {path} changed while it was read; see who writes to it, and try again")
    return Weights(digest, found.note)


def _is_whole(value: Tensor) -> bool:
    return not (value.is_floating_point() or value.is_complex())
