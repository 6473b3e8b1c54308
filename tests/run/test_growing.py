"""A corpus that grows, shrinks and forgets, and what a run makes of what earlier runs left. Shards are made inline."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from tests.conftest import CLASSIFIER, Said, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.errors import IntegrityError, RunError, SpecError
from medadv.common.stop import Stop
from medadv.corpus import private as state
from medadv.corpus.folder import Workspace
from medadv.datasets import file_hashes
from medadv.evidence.verify import verify
from medadv.plan.frozen import generations
from medadv.plan.model import PlannedShard
from medadv.prepare import estimate
from medadv.prepare.describe import describe
from medadv.prepare.request import Options
from medadv.run.forget import forget
from medadv.run.part import run_part
from medadv.run.run import run
from medadv.spec.reading import load_spec
from medadv.victims.loading import VictimRequest

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture
def corpus(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A copy of the finished corpus with its inputs and spec."""
    shutil.copytree(tiny_corpus.parent, tmp_path / "copy")
    return tmp_path / "copy" / "corpus"


def again(corpus: Path, **options: object) -> object:
    return run(corpus.parent / "spec.yaml", Options(**options), quiet)


def add_pictures(corpus: Path, count: int) -> None:
    draw_pictures(corpus.parent / "data", count)


def shard_bytes(corpus: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (corpus / "shards").iterdir()}


def test_plan_tells_what_is_new_and_about_how_long_it_takes(corpus: Path) -> None:
    spec = corpus.parent / "spec.yaml"
    before = describe(spec, Options(), quiet)
    assert (before["new_samples"], before["shards_to_make"], before["estimated_seconds"]) == (0, 0, 0.0)
    held = before["samples"]
    add_pictures(corpus, held + 3)
    grown = describe(spec, Options(), quiet)
    anew = describe(spec, Options(out=corpus.parent / "other"), quiet)
    assert (grown["samples"], grown["new_samples"], anew["new_samples"]) == (held + 3, 3, held + 3)
    assert grown["estimated_seconds"] > 0
    assert anew["estimated_seconds"] > 0
    assert not (corpus.parent / "other").exists()


def test_estimated_time_counts_voxels_and_workers(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_timed", lambda action: (action(), 2.0)[1])
    spec, (made,) = load_spec(corpus.parent / "spec.yaml"), generations(Workspace(corpus).plans)
    settings = made.settings.execution.model_copy(update={"profile": None})
    request = VictimRequest(spec.victim, spec.data.task, corpus.parent)
    first, *_ = made.lines()
    twice = replace(first, shape=(first.shape[0], 2 * first.shape[1], first.shape[2]))

    def seconds(shards: list[PlannedShard], workers: int) -> float:
        found = estimate.seconds_to_make(spec, settings, shards, request, corpus.parent / "data", workers)
        assert found is not None
        return found

    batch = len(first.batches[0])
    steps = sum(attack.steps for attack in spec.attacks.values())
    # One scoring of the clean batch and one for each attack beside the steps, two seconds each; loading took hardly any time.
    expected = 2.0 * (steps + 1 + len(spec.attacks)) * len(first.samples) / batch
    assert seconds([first], 4) == pytest.approx(expected, abs=0.5 * len(first.samples))
    assert seconds([first, twice], 1) > 2.5 * expected
    assert seconds([first, first], 2) < 1.5 * expected


def test_one_new_image_makes_one_new_shard_and_touches_no_other(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again(corpus)
    before = shard_bytes(corpus)
    hashed: list[Path] = []
    real = file_hashes.hash_file
    monkeypatch.setattr(file_hashes, "hash_file", lambda path: hashed.append(path) or real(path))
    text = (corpus.parent / "data" / "labels.csv").read_text()
    shutil.copytree(corpus.parent / "data", corpus.parent / "more")
    draw_pictures(corpus.parent / "new", 11)
    shutil.copy(corpus.parent / "new" / "010.png", corpus.parent / "data")
    (corpus.parent / "data" / "labels.csv").write_text(text + "010.png,0,p9,test\n")
    result = again(corpus)
    assert (result.exit_code, result.new_shards, result.manifest.samples) == (0, 1, 11)
    after = shard_bytes(corpus)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"shard-00003.h5", "shard-00003.json"}
    # Once when it was planned, once when it was loaded: the others' hashes were remembered.
    assert {path.name for path in hashed} == {"010.png"}
    assert len(result.manifest.generations) == 2
    assert verify(corpus) == []
    assert again(corpus).new_shards == 0


def test_removed_and_changed_inputs_are_told_once_and_stay_stored(corpus: Path) -> None:
    data = corpus.parent / "data"
    rows = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join(row for row in rows if not row.startswith("003.png")) + "\n")
    draw_pictures(corpus.parent / "other", 10, seed=5)
    shutil.copy(corpus.parent / "other" / "004.png", data / "004.png")
    said = Said()
    result = run(corpus.parent / "spec.yaml", Options(), said)
    assert "inputs since they were planned: 1 changed, 1 removed" in said
    assert (result.exit_code, result.new_shards, result.manifest.samples) == (3, 1, 11)
    assert [json.loads(line)["code"] for line in (corpus / "quarantine.jsonl").read_text().splitlines()] == ["changed-input"] * 2
    assert again(corpus).exit_code == 0
    assert verify(corpus) == []


def test_another_label_is_told_and_another_column_refused(corpus: Path) -> None:
    table = corpus.parent / "data" / "labels.csv"
    before, text = shard_bytes(corpus), table.read_text()
    first = text.splitlines()[1]
    name, label, rest = first.split(",", 2)
    table.write_text(text.replace(first, f"{name},{1 - int(label)},{rest}"))
    result = again(corpus)
    assert (result.exit_code, result.new_shards, shard_bytes(corpus)) == (3, 0, before)
    records = [json.loads(line) for line in (corpus / "quarantine.jsonl").read_text().splitlines()]
    assert [(r["code"], "given another label" in r["message"]) for r in records] == [("changed-input", True)]
    header = text.splitlines()[0]
    table.write_text(text.replace(header, header.replace("grade", "level")))
    with pytest.raises(SpecError, match=r"data\.label"):
        again(corpus, overrides=["data.label=level"])


def test_rehash_sees_what_size_and_time_hide(corpus: Path) -> None:
    path = corpus.parent / "data" / "005.png"
    status, content = path.stat(), path.read_bytes()
    for suffix, rehash, new in ((b"a", False, 1), (b"b", False, 0), (b"b", True, 1)):
        # Bytes after the end of a PNG change its hash and nothing else.
        path.write_bytes(content + suffix)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert again(corpus, rehash=rehash).new_shards == new


def test_a_vanished_data_root_is_an_error_and_quarantines_nothing(corpus: Path) -> None:
    before = (corpus / "manifest.json").read_bytes()
    (corpus.parent / "data").rename(corpus.parent / "elsewhere")
    with pytest.raises(RunError, match="vanished") as caught:
        again(corpus)
    assert caught.value.exit_code == 4
    (corpus.parent / "data").mkdir()
    shutil.copy(corpus.parent / "elsewhere" / "labels.csv", corpus.parent / "data")
    with pytest.raises(RunError, match="vanished"):
        again(corpus)
    assert (corpus / "manifest.json").read_bytes() == before


def test_what_a_killed_run_left_is_swept_and_completed(corpus: Path) -> None:
    expected = json.loads((corpus / "manifest.json").read_text())["content_root"]
    (corpus / "shards" / "shard-00001.json").unlink()
    (corpus / "shards" / "shard-00001.h5").write_bytes(b"half a file")
    (corpus / "shards" / ".tmp-shard-00001-dead.h5").write_bytes(b"x")
    (corpus / ".medadv" / "plans" / "0000" / ".tmp-plan-1").write_bytes(b"x")
    (corpus / "manifest.json.sha256").unlink()
    result = again(corpus)
    assert (result.new_shards, result.manifest.content_root) == (1, expected)
    assert verify(corpus) == []
    assert list(corpus.rglob(".tmp*")) == []


def test_receipts_of_another_plan_or_without_their_file_are_refused(corpus: Path) -> None:
    receipt = corpus / "shards" / "shard-00002.json"
    content = json.loads(receipt.read_text())
    receipt.write_text(json.dumps({**content, "plan": "0" * 64}))
    with pytest.raises(IntegrityError, match=r"shard-00002.json is damaged, or the receipt of another plan"):
        again(corpus)
    receipt.write_text(json.dumps(content))
    (corpus / "shards" / "shard-00002.h5").unlink()
    with pytest.raises(IntegrityError, match=r"shard-00002.h5 is missing"):
        again(corpus)


def test_forgetting_a_group_removes_it_for_good(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 10)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path, data__group="patient")
    result = run(spec, Options(), quiet)
    corpus = result.corpus
    with h5py.File(corpus / "shards" / "shard-00001.h5") as file:
        group, sample = file["group_id"][0].decode(), file["sample_id"][0].decode()
    (corpus / "report.html").write_text("pictures")
    before = shard_bytes(corpus)
    done = forget(corpus, group, Options(), quiet)
    assert done.manifest.samples == 8
    assert len(done.manifest.generations) == 2
    assert done.manifest.run.status == "complete"
    assert verify(corpus) == []
    everything = b"".join(path.read_bytes() for path in corpus.rglob("*") if path.is_file() and path.name != "forgotten.json")
    assert sample.encode() not in everything
    assert group.encode() not in everything
    kept = {name for name in shard_bytes(corpus) if shard_bytes(corpus)[name] == before.get(name)}
    assert "shard-00001.h5" not in shard_bytes(corpus)
    assert len(kept) == 2 * (3 - len(set(before) - set(shard_bytes(corpus))) // 2)
    once_more = run(spec, Options(), quiet)
    assert (once_more.new_shards, once_more.manifest.samples) == (0, 8)
    with pytest.raises(SpecError, match="no group"):
        forget(corpus, "0" * 32, Options(), quiet)


def test_forgetting_removes_nothing_when_the_others_could_not_be_made_again(corpus: Path) -> None:
    with h5py.File(corpus / "shards" / "shard-00000.h5") as file:
        group = file["group_id"][0].decode()
    before = shard_bytes(corpus)
    shutil.rmtree(corpus.parent / "data")
    # The plan names the original's folder, so that is where the inputs are looked for.
    folder = corpus / ".medadv" / "plans" / "0000" / "plan.json"
    folder.write_text(folder.read_text().replace(json.loads(folder.read_text())["root"], str(corpus.parent / "data")))
    with pytest.raises(RunError, match="nothing was removed"):
        forget(corpus, group, Options(), quiet)
    assert shard_bytes(corpus) == before
    assert state.forgotten_groups(Workspace(corpus)) == []


def test_parts_on_one_plan_merge_to_what_one_run_makes(tiny_corpus: Path, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 10)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path)
    made = [run_part(spec, part, Options(), quiet, Stop()).shards for part in ("2/2", "1/2")]
    assert made == [1, 2]
    assert run_part(spec, "1/2", Options(), quiet, Stop()).shards == 0
    assert not (tmp_path / "corpus" / "manifest.json").exists()
    result = run(spec, Options(), quiet)
    assert result.new_shards == 0
    assert result.manifest.content_root == json.loads((tiny_corpus / "manifest.json").read_text())["content_root"]
    with pytest.raises(SpecError, match=r"attacks.pgd-8.steps: 3 -> 4"):
        run_part(spec, "1/2", Options(overrides=["attacks.pgd-8.steps=4"]), quiet, Stop())
    for wrong in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(SpecError, match="I/N"):
            run_part(spec, wrong, Options(), quiet, Stop())
