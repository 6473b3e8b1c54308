"""Pictures of which some are fitted to and others attacked, and what may come in between."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tests.conftest import CLASSIFIER, InlinePool, draw_pictures, quiet, save_victim, tiny_spec

from medadv.attacks import universal
from medadv.prepare.request import Options
from medadv.run.run import run

ATTACK = {"attack": "universal", "epsilon": 8, "step": 2, "steps": 3, "fit": {"split": "train"}}
FITTED, ATTACKED = 6, 6


def write_data(folder: Path, count: int = FITTED + ATTACKED, fitted: int = FITTED) -> None:
    """Pictures of patients, two a patient; the first of them are fitted to."""
    draw_pictures(folder / "data", count)
    table = folder / "data" / "labels.csv"
    head, *rows = table.read_text().splitlines()
    rows = [row.replace(",test", ",train") if number < fitted else row for number, row in enumerate(rows)]
    table.write_text("\n".join([head, *rows]) + "\n")


def write_case(folder: Path, attacks: dict[str, Any] | None = None, **changes: Any) -> Path:
    write_data(folder)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return tiny_spec(folder, attacks=attacks or {"one": ATTACK}, data__group="patient", data__split={"use": "test"}, **changes)


def made_in(folder: Path) -> Path:
    """A finished corpus with a universal attack and PGD, its shards made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medadv.run.cluster.connect", lambda *_, **__: nullcontext(InlinePool()))
        pgd = {"attack": "pgd", "epsilon": 8, "step": 2, "steps": 2}
        return run(write_case(folder, {"one": ATTACK, "each": pgd}), Options(), quiet).corpus


def shared(corpus: Path, name: str = "one") -> np.ndarray:
    with h5py.File(corpus / "attacks" / f"{name}.h5") as file:
        return file["perturbation"][...]


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, how: Callable[[], None]) -> None:
    step, count = universal.step, iter(range(at))

    def steps(*args: Any) -> torch.Tensor:
        if next(count, None) is None:
            how()
        return step(*args)

    monkeypatch.setattr(universal, "step", steps)
