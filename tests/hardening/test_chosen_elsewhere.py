"""Chosen anew on images that the victim never saw, a hardening has other figures and the same weights."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import load_script, quiet
from tests.hardening.hardening_cases import classification

from medadv.common.hashing import hash_file
from medadv.common.stop import Stop
from medadv.hardening import choosing, measuring
from medadv.hardening.harden import harden
from medadv.prepare.request import Options


@pytest.fixture(scope="module")
def script() -> ModuleType:
    # It imports the other, which lies beside it.
    load_script("bench/training.py")
    return load_script("bench/chosen_elsewhere.py")


@pytest.mark.usefixtures("inline")
def test_the_same_generations_are_measured_and_chosen_from(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "resamples_for", lambda *_: 30)
    spec = classification(tmp_path, 8, 2, held=4, generations=2)
    before = harden(spec, Options(out=tmp_path / "spec"), None, quiet, Stop())
    folder = script.chosen_anew(before.folder, tmp_path / "data" / "labels.csv", "val")
    record = script.parse(script.Hardening, (folder / "hardening.json").read_bytes())
    assert (folder.name, record.name) == ("tiny-elsewhere-0", "tiny-elsewhere")
    assert (before.record.validation_samples, record.validation_samples, record.training_samples) == (2, 4, before.record.training_samples)
    assert [each.weights_sha256 for each in record.generations] == [each.weights_sha256 for each in before.record.generations]
    # Natively the whole split would be trained on: of the victim, which nothing was trained of yet, the figures are those.
    native = harden(spec, Options(out=tmp_path / "native", overrides=["hardening.validation=val"]), None, quiet, Stop()).record
    assert (record.victim, record.ignoring_image) == (native.victim, native.ignoring_image)
    assert record.choice == choosing.choose(record.generations, record.settings.clean_cost, record.metric)
    assert record.final is not None
    chosen = record.generations[record.choice.generation - 1].weights_sha256
    attacked = json.loads((folder / "final" / "chosen.json").read_text())["weights_sha256"]
    assert hash_file(folder / "weights.safetensors") == attacked == chosen


def test_the_next_groups_of_a_split_get_a_name_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [("test", "a"), ("test", "b"), ("test", "b"), ("train", "c"), ("test", "d"), ("train", "e"), ("train", "f")]
    images = [{"id": number, "split": split, "group": group} for number, (split, group) in enumerate(names)]
    boxes = [{"id": number, "image_id": number} for number in range(len(names))]
    (tmp_path / "all.json").write_text(json.dumps({"images": images, "annotations": boxes}))
    monkeypatch.setattr("sys.argv", ["script", str(tmp_path / "all.json"), str(tmp_path / "some.json"), "test=1", "test:val=2", "train=2"])
    load_script("bench/first_groups.py").main()
    found = json.loads((tmp_path / "some.json").read_text())
    assert [(each["id"], each["split"]) for each in found["images"]] == [(0, "test"), (1, "val"), (2, "val"), (3, "train"), (5, "train")]
    assert [each["image_id"] for each in found["annotations"]] == [0, 1, 2, 3, 5]
