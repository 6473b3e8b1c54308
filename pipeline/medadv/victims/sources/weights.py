"""Weights from safetensors or a state dict, held against the network."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from medadv.common.errors import SpecError, first_line
from medadv.common.hashing import hash_file
from medadv.spec.victim import VictimSettings

NESTED = ("state_dict", "model", "model_state_dict", "network")
SHOWN = 3


def load_weights(network: nn.Module, settings: VictimSettings, base: Path) -> str:
    path = base / str(settings.weights)
    if not path.is_file():
        raise SpecError(f"victim.weights: no such file {path}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            state = next((loaded[key] for key in NESTED if isinstance(loaded.get(key), dict)), loaded)
    except Exception as error:  # safetensors and torch raise types of their own for damaged files
        raise SpecError(f"victim.weights: {path} cannot be read as weights ({first_line(error)})") from None
    _fit(network, state, settings, path)
    return hash_file(path)


def _fit(network: nn.Module, state: dict[str, Tensor], settings: VictimSettings, path: Path) -> None:
    own = network.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [f"{k} {list(state[k].shape)} for {list(own[k].shape)}" for k in own if k in state and state[k].shape != own[k].shape]
    if missing or extra or shapes:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
            for what, names in (("missing", missing), ("not known to the network", extra), ("of another shape", shapes))
            if names
        ]
        raise SpecError(f"victim: {path} does not fit {settings.network} with these arguments: tensors {'; '.join(parts)}")
    network.load_state_dict(state)
