"""A corpus, and others whose attacks start from it."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from tests.conftest import CLASSIFIER, InlinePool, draw_pictures, quiet, save_victim, tiny_spec

from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.prepare.request import Options
from medadv.run.run import run

COUNT, EARLIER = 6, 4
FIRST = {"attack": "pgd", "epsilon": 8, "step": 3, "steps": 3}
NEXT = {"attack": "pgd", "epsilon": 4, "step": 1, "steps": 2, "start": {"corpus": "../first/corpus"}}


def write_first(home: Path) -> Path:
    """Inputs and spec of the earlier corpus, which lacks the last patient."""
    folder = home / "first"
    draw_pictures(folder / "data", COUNT)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    table = folder / "data" / "labels.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join(rows[: 1 + EARLIER]) + "\n")
    (folder / "data" / "all.csv").write_text("\n".join(rows) + "\n")
    return tiny_spec(folder, attacks={"pgd": FIRST}, data__group="patient")


def write_next(home: Path, attacks: dict[str, Any] | None = None, name: str = "next", **changes: Any) -> Path:
    """Spec of a later corpus, of all pictures, against another victim."""
    folder = home / name
    folder.mkdir(exist_ok=True)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER, seed=1)
    changes = {"data__group": "patient", "data__path": "../first/data/all.csv", "name": "later", **changes}
    return tiny_spec(folder, attacks=attacks or {"pgd": NEXT}, **changes)


def made(spec: Path, **options: Any) -> Path:
    """The finished corpus of a spec, its shards made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medadv.run.cluster.connect", lambda *_, **__: nullcontext(InlinePool()))
        return run(spec, Options(**options), quiet).corpus


def changed(spec: Path, **attack: Any) -> Path:
    """The spec with other settings of its attack."""
    values = yaml.safe_load(spec.read_text())
    values["attacks"]["pgd"].update(attack)
    spec.write_text(yaml.safe_dump(values))
    return spec


def by_sample(corpus: Path, name: str) -> dict[str, np.ndarray]:
    """An array of all shards by sample id."""
    found: dict[str, np.ndarray] = {}
    for entry in read_manifest(Workspace(corpus)).shards:
        with h5py.File(corpus / entry.path) as file:
            found |= {sample.decode(): file[name][row] for row, sample in enumerate(file["sample_id"][...])}
    return found
