"""Small hardenings, one a task, of victims that need no training."""

import csv
from pathlib import Path
from typing import Any

import yaml
from tests.conftest import CLASSIFIER, draw_pictures, save_victim, tiny_spec

PLAIN = {
    "split": "train",
    "generations": 2,
    "epochs": 1,
    "rate": 1e-3,
    "batch_size": 4,
    "averaging": 0.5,
    "validation": 0.3,
    "validation_attacks": [{"attack": "pgd", "steps": 2}],
    "final_attacks": [{"attack": "pgd", "steps": 2}, {"attack": "fgsm"}],
}


def classification(folder: Path, count: int = 20, final: int = 6, **hardening: Any) -> Path:
    """Pictures of two classes, two a patient; the last ones are the final images."""
    draw_pictures(folder / "data", count + final)
    table = folder / "data" / "labels.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["split"] = "train" if number < count else "test"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    path = tiny_spec(folder, data__group="patient", data__split={"use": "test"}, attacks={"pgd": {"attack": "pgd", "epsilon": 4, "steps": 2}})
    return with_hardening(path, **hardening)


def with_hardening(path: Path, **changes: Any) -> Path:
    """The spec with a section `hardening`."""
    spec = yaml.safe_load(path.read_text())
    spec["hardening"] = {**PLAIN, **changes}
    path.write_text(yaml.safe_dump(spec))
    return path
