"""Weights from safetensors or a checkpoint, held against the network."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from medadv.common.errors import SpecError
from medadv.common.hashing import hash_file
from medadv.spec.victim import VictimSettings
from medadv.victims.sources.checkpoint import read_checkpoint
from medadv.victims.sources.matching import match


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
        found = match(network.state_dict(), read_checkpoint(path), settings.weights_key)
    except ValueError as error:
        raise SpecError(f"victim: {path} does not fit {settings.network} with these arguments: tensors {error}") from None
    if broken := [name for name, value in found.tensors.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise SpecError(f"victim: {path} holds values that are no numbers, in {broken[0]}" + (", …" if len(broken) > 1 else ""))
    # What `match` let pass as missing are counters, which no answer depends on.
    network.load_state_dict(found.tensors, strict=False)
    return Weights(hash_file(path), found.note)
