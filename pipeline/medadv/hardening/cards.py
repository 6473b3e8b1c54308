"""What says of weights what they are? A card beside them, in the terms of a run spec, as that of every victim."""

from pathlib import Path

import safetensors.torch
from torch import Tensor

from medadv.common.files import write_file
from medadv.common.hashing import canonical_json, hash_bytes
from medadv.common.record import Json
from medadv.hardening.record import Compared
from medadv.hardening.work import Made
from medadv.report.record import Figure
from medadv.spec.hardening import HardeningSettings
from medadv.spec.run_spec import RunSpec


def write_weights(path: Path, weights: dict[str, Tensor]) -> str:
    """As safetensors, in one step; gives their SHA-256."""
    data = safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data)
    return hash_bytes(data)


def write_card(path: Path, name: str, spec: RunSpec, newest: Made, compared: Compared, metric: str, digest: str, epochs: int) -> None:
    """A card.  newest: corpus that was trained on.  epochs: so many in all."""
    victim, settings, manifest = spec.victim, spec.hardening, newest.manifest
    assert settings is not None
    normalize = victim.model_dump(mode="json")["normalize"]
    card: dict[str, Json] = {
        "format": "medadv-victim",
        "name": name,
        "network": victim.network,
        "arguments": victim.arguments,
        "task": spec.data.task,
        "head": None if spec.data.task == "detection" else victim.head,
        "classes": manifest.data.classes,
        "input": {
            "modality": spec.data.modality,
            "unit": manifest.data.unit,
            "spatial_axes": "x first" if manifest.x_first else "y first",
            **spec.preprocess.model_dump(mode="json", by_alias=True),
        },
        "normalize": normalize,
        "data": f"split {settings.split}{'' if settings.validation_split else f', less {settings.validation:g} of its groups'}",
        "trained_on": manifest.samples,
        "metric": {"name": metric, "images": "validation", "clean": _plain(compared.clean), "robust": _plain(compared.robust)},
        "training": _training(settings, epochs),
        "seed": settings.seed,
        "started_from_sha256": manifest.victim.weights_sha256,
        "weights_sha256": digest,
        "created_by": "medadv harden",
    }
    write_file(path, canonical_json(card) + b"\n")


def _training(settings: HardeningSettings, epochs: int) -> dict[str, Json]:
    """What is known of it: optimizer, rate and average of a trainer of one's own are its own."""
    if settings.command is not None:
        return {"by": "command"}
    if settings.bundle is not None:
        return {"by": "bundle", "epochs": epochs}
    return {
        "epochs": epochs,
        "batch": settings.batch_size,
        "learning_rate": settings.rate,
        "optimizer": settings.optimizer,
        "loss": settings.loss,
        "averaging": settings.averaging,
        "precision": "fp32",
    }


def _plain(figure: Figure | None) -> Json:
    return None if figure is None else figure.model_dump(mode="json")
