"""A trained victim on disk: the bare network's weights, and a card that says what they are."""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from medadv.common.hashing import hash_file
from medadv.common.record import Json
from medadv.demo.victims import SIZE, Recipe

MODALITIES = {"classification": "fundus", "segmentation": "ct", "detection": "endoscopy"}


def write_victim(
    folder: Path, recipe: Recipe, state: dict[str, Tensor], metrics: dict[str, float], *, trained_on: int, held_out: int, seed: int
) -> Path:
    """Write NAME.safetensors, whose path is returned, and NAME.json beside it, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{recipe.name}.safetensors"
    save_file(state, weights)
    (folder / f"{recipe.name}.json").write_text(
        json.dumps(_card(recipe, metrics, trained_on, held_out, seed, hash_file(weights)), indent=2) + "\n", encoding="utf-8"
    )
    return weights


def _card(recipe: Recipe, metrics: dict[str, float], trained_on: int, held_out: int, seed: int, digest: str) -> dict[str, Json]:
    modality = MODALITIES[recipe.task]
    return {
        "format": "medadv-victim",
        "name": recipe.name,
        "network": recipe.network,
        "arguments": recipe.arguments,
        "task": recipe.task,
        "head": None if recipe.task == "detection" else "softmax",
        "classes": list(recipe.classes),
        "input": {
            "modality": modality,
            "unit": "hu" if modality == "ct" else "level8",
            "spatial_axes": "xy" if modality == "ct" else "yx",
            "size": [SIZE, SIZE],
            "fit": None,
        },
        "normalize": recipe.normalize,
        "data": f"synthetic {modality} phantoms, drawn by medadv demo; no patient's image",
        "split": "by drawn patient or session",
        "trained_on": trained_on,
        "held_out": held_out,
        "metrics": {key: round(value, 4) for key, value in metrics.items()},
        "training": {"epochs": recipe.epochs, "batch": recipe.batch, "learning_rate": recipe.learning_rate, "precision": "fp32"},
        "seed": seed,
        "weights_sha256": digest,
        "created_by": "medadv demo",
    }
