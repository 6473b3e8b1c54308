"""The sanity checks that a run writes into its manifest."""

import json
import shutil
from pathlib import Path

import h5py
import pytest
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.errors import StoppedError
from medadv.common.record import plain
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.evidence import stored_strength as selfcheck
from medadv.evidence.verify import verify
from medadv.plan.frozen import generations
from medadv.prepare.request import Options
from medadv.run import finish
from medadv.run.run import run
from medadv.run.working import Work

pytestmark = pytest.mark.usefixtures("inline")


def made(folder: Path, count: int = 12, **changes: object) -> Path:
    draw_pictures(folder / "data", count)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(folder, **changes)
    run(spec, Options(), quiet)
    return spec


def test_checks_rest_on_stored_samples(tmp_path: Path) -> None:
    made(tmp_path, sanity_samples=32)
    manifest = read_manifest(Workspace(tmp_path / "corpus"))
    found = plain(manifest.sanity)
    receipts = [json.loads(path.read_text()) for path in sorted((tmp_path / "corpus/shards").glob("*.json"))]
    records = {record["id"]: record for receipt in receipts for record in receipt["records"]}
    right = []
    for path in sorted((tmp_path / "corpus/shards").glob("*.h5")):
        with h5py.File(path) as file:
            same = file["attacks/pgd-8/prediction_clean"][...] == file["label"][...]
            right += [bytes(name).decode() for name in file["sample_id"][...][same]]
    # Never over an eighth of the corpus or eight; a wrong answer cannot be made wrong.
    assert 0 < len(right) < 12
    assert found["sample_ids"] == sorted(right)[:8]
    n = found["samples"]
    success = [records[sample]["attacks"]["pgd-8"]["success"] for sample in found["sample_ids"]]
    assert found["noise"]["white_box"] == sum(success) / n
    assert {rung["epsilon"]: rung["success"] for rung in found["epsilon_ladder"]}[8] == sum(success) / n
    assert {rung["steps"]: rung["success"] for rung in found["steps_ladder"]}[3] == sum(success) / n
    both = [any(records[sample]["attacks"][name]["success"] for name in ("pgd-8", "smia-8")) for sample in found["sample_ids"]]
    assert found["worst_case"] == {"success": sum(both) / n, "attacks": ["pgd-8", "smia-8"]}
    assert verify(tmp_path / "corpus") == []


def test_none_on_request(tmp_path: Path) -> None:
    made(tmp_path, 4, sanity_samples=0)
    assert read_manifest(Workspace(tmp_path / "corpus")).sanity is None


def test_growing_keeps_them_while_their_samples_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = made(tmp_path, 4)
    first = read_manifest(Workspace(tmp_path / "corpus")).sanity
    draw_pictures(tmp_path / "data", 5)
    monkeypatch.setattr(selfcheck, "sanity", None)
    run(spec, Options(), quiet)
    manifest = read_manifest(Workspace(tmp_path / "corpus"))
    assert manifest.samples == 5
    assert manifest.sanity == first


def test_they_are_made_again_when_a_sample_is_gone(tmp_path: Path) -> None:
    made(tmp_path, 4)
    workspace = Workspace(tmp_path / "corpus")
    manifest = read_manifest(workspace)
    (plan,) = generations(workspace.plans)
    before = manifest.sanity.model_copy(update={"warnings": ["of before"]})
    assert selfcheck.corpus_sanity(workspace, manifest, plan, before) == before
    gone = before.model_copy(update={"sample_ids": [*before.sample_ids, "0" * 32]})
    assert selfcheck.corpus_sanity(workspace, manifest, plan, gone) == manifest.sanity


def test_a_check_that_fails_costs_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no memory left\nand more")

    monkeypatch.setattr(selfcheck, "sanity", broken)
    made(tmp_path, 4)
    found = read_manifest(Workspace(tmp_path / "corpus")).sanity
    assert plain(found) == {"samples": 0, "sample_ids": [], "warnings": ["sanity checks left out: RuntimeError; the run's log says more"]}
    assert verify(tmp_path / "corpus") == []


def test_a_signal_during_the_checks_is_heard_and_the_next_run_completes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = made(tmp_path, 4)
    shutil.rmtree(tmp_path / "corpus")
    stop = Stop()
    tick = finish._tick

    def signalled(work: Work, done: int, total: int) -> None:
        stop.note(15)
        tick(work, done, total)

    monkeypatch.setattr(finish, "_tick", signalled)
    with pytest.raises(StoppedError, match="every shard is made"):
        run(spec, Options(), quiet, stop)
    monkeypatch.undo()
    result = run(spec, Options(), quiet)
    assert result.manifest.sanity.samples == 2
    assert result.manifest.run.status == "complete"


def test_second_victim_gives_transfer(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 4)
    save_victim(tmp_path / "other.safetensors", "monai:densenet121", CLASSIFIER, seed=1)
    looks = {"normalize": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    second = {"network": "monai:densenet121", "arguments": CLASSIFIER, "weights": "other.safetensors", **looks}
    made(tmp_path, 4, second_victim=second)
    transfer = read_manifest(Workspace(tmp_path / "corpus")).sanity.transfer
    assert 0 <= transfer.success <= 1
