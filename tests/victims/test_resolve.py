"""A spec whose victim is a folder: what it says itself wins, and what it leaves out comes from the model."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from medadv.common.errors import SpecError
from medadv.victims.importers import resolve
from medadv.victims.importers.imported import Imported
from medadv.victims.importers.resolve import read_spec

SPEC: dict[str, Any] = {
    "name": "x",
    "data": {"layout": "nnunet", "path": "."},
    "victim": {"bundle": "model"},
    "attacks": {"pgd": {"attack": "pgd", "epsilon": 8}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a model in `model` that says everything."""
    (tmp_path / "model").mkdir()

    def importer(path: Path, own: Any, trust_code: bool) -> Imported:
        victim = {"network": "monai:unet", "arguments": {"a": 1}, "weights": [str(path / "0.pt"), str(path / "1.pt")], "window": [8, 8, 8]}
        return Imported(
            {**victim, "normalize": [{"window": [-57, 164]}]},
            {"task": "segmentation", "modality": "ct", "label_map": {"spleen": [1]}},
            {"spacing": [1.5, 1.5, 2.0], "orientation": "RAS"},
            ("understood so",),
        )

    monkeypatch.setitem(resolve.IMPORTERS, "bundle", (importer, ("configuration",)))
    return tmp_path


def read(folder: Path, **changes: Any) -> Any:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}))
    return read_spec(path)


def test_what_the_spec_leaves_out_comes_from_the_model(folder: Path) -> None:
    spec, notes = read(folder)
    assert (spec.data.task, spec.data.modality, spec.data.label_map) == ("segmentation", "ct", {"spleen": [1]})
    assert (spec.preprocess.spacing, spec.preprocess.orientation) == ((1.5, 1.5, 2.0), "RAS")
    # Beside the spec, as the folder was: both may move together.
    assert spec.victim.weights == ["model/0.pt", "model/1.pt"]
    assert notes == ["victim: understood so"]


def test_what_the_spec_says_wins(folder: Path) -> None:
    spec, _ = read(folder, victim={"bundle": "model", "window": [4, 4, 4]}, preprocess={"spacing": [3, 3, 3]})
    assert spec.victim.window == (4, 4, 4)
    assert spec.victim.arguments == {"a": 1}
    assert (spec.preprocess.spacing, spec.preprocess.orientation) == ((3, 3, 3), "RAS")


@pytest.mark.parametrize("own", [{"threshold": 100}, {"label_map": {"organ": [3]}}, {"label": ["a/{id}.png", "b/{id}.png"]}], ids=str)
def test_masks_of_another_kind_are_not_mapped_by_the_model(folder: Path, own: dict[str, Any]) -> None:
    spec, _ = read(folder, data={**SPEC["data"], **own})
    assert spec.data.label_map == own.get("label_map")


@pytest.mark.parametrize(
    ("victim", "said"),
    [
        ({"bundle": "nowhere"}, r"victim\.bundle: no such folder"),
        ({"bundle": 3}, r"victim\.bundle names a folder"),
        ({"bundle": "model", "nnunet": "model"}, "name one"),
    ],
)
def test_what_is_no_folder_is_refused(folder: Path, victim: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        read(folder, victim=victim)


def test_a_second_victim_gives_no_data_settings(folder: Path) -> None:
    first = {"network": "monai:unet", "weights": "w.pt", "normalize": {"window": [-1000, 400]}}
    data = {**SPEC["data"], "task": "segmentation", "modality": "ct"}
    spec, notes = read(folder, victim=first, second_victim={"bundle": "model"}, data=data)
    assert (spec.preprocess.spacing, spec.data.label_map) == (None, None)
    assert spec.second_victim.weights == ["model/0.pt", "model/1.pt"]
    assert notes == ["second_victim: understood so"]
