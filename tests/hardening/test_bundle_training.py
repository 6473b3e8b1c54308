"""A MONAI bundle of our own making is hardened through its own train.json, and nothing in its folder changes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tests.conftest import CLASSIFIER, quiet
from tests.hardening.hardening_cases import classification, from_checkpoint

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.record import parse
from medadv.common.stop import Stop
from medadv.hardening import bundle as bundle_room
from medadv.hardening import bundle_process, measuring
from medadv.hardening.bundle import changes, hash_folder
from medadv.hardening.harden import Hardened, harden
from medadv.prepare.request import Options
from medadv.spec.hardening import BundleSettings

LOOP = """
import json
import torch

def train(network, dataset, optimizer, epochs, folder):
    network.train()
    seen = []
    for epoch in range(epochs):
        for item in dataset:
            loss = torch.nn.functional.cross_entropy(network(item["image"][None]), torch.tensor([item["label"]]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(item["image"].meta["filename_or_obj"])
    with open(f"{folder}/seen.json", "w") as file:
        json.dump(seen, file)
"""
LOAD: list[dict[str, Any]] = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": -1, "b_max": 1},
]
TRAIN: dict[str, Any] = {
    "imports": ["$import torch", "$import loop_of_the_bundle"],
    "bundle_root": ".",
    "ckpt_dir": "$@bundle_root + '/models'",
    "epochs": 40,
    "network": {"_target_": "DenseNet121", **CLASSIFIER},
    "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.01},
    "train": {
        "dataset": {
            "_target_": "CacheDataset",
            "data": "$[{'image': 'where/its/author/worked.png', 'label': 0}]",
            "transform": {"_target_": "Compose", "transforms": LOAD},
            "progress": False,
        }
    },
    "run": ["$loop_of_the_bundle.train(@network, @train#dataset, @optimizer, @epochs, @ckpt_dir)"],
}


def bundle(folder: Path, **entries: Any) -> Path:
    """A bundle with a loop of its own, so that no further package is needed."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "train.json").write_text(json.dumps({**TRAIN, **entries}))
    (folder / "loop_of_the_bundle.py").write_text(LOOP)
    return folder


def spec_with(folder: Path, **entries: Any) -> Path:
    path = classification(folder, 8, 4, generations=1, share=0.5)
    bundle(folder / "bundle", **entries)
    spec = yaml.safe_load(path.read_text())
    spec["hardening"]["bundle"] = {"path": "bundle"}
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles train in this process: starting another takes seconds and shows nothing more."""

    def run_program(work: Any, arguments: list[str], log: Path, folder: Path) -> None:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.setattr(sys, "path", list(sys.path))
        sys.modules.pop("loop_of_the_bundle", None)
        assert arguments[:3] == [sys.executable, "-m", bundle_process.__name__]
        bundle_process.main(parse(bundle_process.Job, Path(arguments[3]).read_bytes()))

    monkeypatch.setattr(bundle_room, "run_program", run_program)
    monkeypatch.setattr(measuring, "resamples_for", lambda *_: 30)


def hardened(path: Path) -> Hardened:
    return harden(path, Options(trust_code=True), None, quiet, Stop())


@pytest.mark.filterwarnings("ignore:NvImgCodec")
@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("given", [Path, from_checkpoint])
def test_a_bundle_trains_on_clean_and_attacked_images_as_items_of_their_own(given: Callable[[Path], Path], tmp_path: Path) -> None:
    path = given(spec_with(tmp_path))
    before = hash_folder(tmp_path / "bundle")
    done = hardened(path)
    assert hash_folder(tmp_path / "bundle") == before
    assert done.record.final is not None
    seen = {arm: json.loads((done.folder / ".medadv" / "bundle" / arm / "seen.json").read_text()) for arm in ("hardened", "control")}
    # Six training images, each clean and attacked, one epoch instead of forty; the control sees as many.
    assert [len(names) for names in seen.values()] == [12, 12]
    assert sum(name.endswith("_pgd.h5") for name in seen["hardened"]) == 6
    assert all(name.endswith("_clean.h5") for name in seen["control"])
    victim = load_file(tmp_path / "victim.safetensors")
    for folder in (done.folder, done.folder / "control"):
        weights = load_file(folder / "generation-001" / "weights.safetensors")
        assert any((weights[name] != victim[name]).any() for name in victim)
        card = json.loads((folder / "generation-001" / "card.json").read_text())
        assert card["training"] == {"by": "bundle", "epochs": 1}


@pytest.mark.usefixtures("inline")
def test_a_bundle_that_writes_into_its_own_folder_is_told(tmp_path: Path) -> None:
    path = spec_with(tmp_path, run=["$open(@bundle_root + '/written', 'w').close()"])
    with pytest.raises(IntegrityError, match="training changed the bundle"):
        hardened(path)


@pytest.mark.parametrize(
    ("entries", "settings", "said"),
    [
        ({"run": None, "train": TRAIN["train"]}, {}, None),
        ({"epochs": None}, {}, "bundle.epochs: its configuration has no epochs"),
        ({}, {"network": "net"}, "bundle.network: its configuration has no net"),
        ({}, {"run": "training"}, "bundle.run: its configuration has no training"),
        ({"train": {"dataset": {"data": [], "transform": {"_target_": "monai.transforms.Spacingd", "keys": "image"}}}}, {}, "grid again"),
    ],
)
def test_what_a_configuration_must_have(entries: dict[str, Any], settings: dict[str, Any], said: str | None) -> None:
    config = {**TRAIN, **entries}
    config = {key: value for key, value in config.items() if value is not None}
    if said is None:
        config["training"] = TRAIN["run"]
        found = changes(config, BundleSettings(path="b", **settings), "$[]", "$[]", 3, "folder")
        assert found.run == "training"
        assert found.overrides == {
            "train#dataset#transform#transforms#0#reader": bundle_room.READER,
            "train#dataset#data": "$[]",
            "epochs": 3,
            "ckpt_dir": "folder",
        }
        return
    with pytest.raises(SpecError, match=said):
        changes(config, BundleSettings(path="b", **settings), "$[]", "$[]", 3, "folder")
