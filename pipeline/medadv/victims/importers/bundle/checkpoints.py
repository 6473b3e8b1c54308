"""Where are a bundle's weights? The file that its CheckpointLoader names; one of the usual names where there is no loader."""

from pathlib import Path
from typing import Any

from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.values import Unreadable, Words

USUAL = ("model.pt", "model_final.pt", "model.ts")
SCRIPTED = ".ts"


def read_checkpoint(found: Found) -> Path:
    """The file, whether it is there or not, which loading says.  Raises SpecError where it leads out of the bundle."""
    configuration = found.configuration
    loaders = _loaders(configuration.raw)
    # One that is switched off names the file where no other does.
    for key in sorted(loaders, key=lambda key: configuration.get(key) is None):
        path = configuration.get(f"{key}::load_path")
        if isinstance(path, Unreadable):
            raise configuration.refused(f"{path.key}: {path.why}", code=path.code)
        if isinstance(path, str):
            # Another file beside it would be another network: better none than that.
            return configuration.inside(path, f"{key}::load_path")
    models = configuration.folder.root / "models"
    usual = [configuration.inside(str(models / name), f"models/{name}") for name in USUAL]
    return next((path for path in usual if path.is_file()), usual[0])


def scripted(found: Found) -> Path | None:
    """The network as TorchScript, where the bundle holds it."""
    path = found.configuration.inside("models/model.ts", "models/model.ts")
    return path if path.is_file() else None


def _loaders(raw: Words) -> list[str]:
    """Where the configuration sets up loaders of checkpoints, in its order."""
    places: list[str] = []
    waiting: list[tuple[str, Any]] = [("", raw)]
    while waiting:
        key, held = waiting.pop(0)
        if isinstance(held, dict) and str(held.get("_target_", "")).rpartition(".")[2] == "CheckpointLoader" and "load_path" in held:
            places.append(key)
        inside = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()
        waiting += [(f"{key}::{name}" if key else str(name), each) for name, each in inside if isinstance(each, dict | list)]
    return places
