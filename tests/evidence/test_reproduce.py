"""Any sample is made again from what is published and the weights; what is missing is said."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import SIZE, draw_pictures, quiet, save_victim, tiny_spec
from tests.corpus.corpus_fuzz import fuzz
from tests.victims.test_foreign_code import rewrite, sample_inputs
from tests.victims.test_programs import save

from medadv.common import machine
from medadv.common.errors import SpecError
from medadv.common.hashing import canonical_json, hash_file
from medadv.common.progress import SILENT
from medadv.corpus.manifest import ShardEntry
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.datasets.source import Source
from medadv.evidence import again
from medadv.evidence.across import check_across
from medadv.evidence.reproduce import TOLERANCE, reproduce
from medadv.evidence.rescore import rescore
from medadv.plan.model import PlannedShard
from medadv.prepare.request import Options
from medadv.run.run import run


@pytest.fixture
def published(tiny_corpus: Path, tmp_path: Path) -> Path:
    """What a stranger downloads: no .medadv."""
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus", ignore=shutil.ignore_patterns(".medadv")))


@pytest.fixture
def weights(tiny_corpus: Path) -> Path:
    return tiny_corpus.parent / "victim.safetensors"


def first_sample(corpus: Path) -> str:
    return str(json.loads((corpus / "shards" / "shard-00001.json").read_text())["records"][1]["id"])


def test_a_stranger_makes_every_sample_again_bit_for_bit(published: Path, weights: Path) -> None:
    found = reproduce(published, None, weights=[weights])
    assert len(found.results) == 20
    assert found.equal
    assert found.environment == []


def test_one_sample_is_made_again_from_its_source(tiny_corpus: Path) -> None:
    sample = first_sample(tiny_corpus)
    found = reproduce(tiny_corpus, sample, data=tiny_corpus.parent / "data")
    assert [(r.sample, r.attack, r.equal) for r in found.results] == [(sample, "pgd-8", True), (sample, "smia-8", True)]
    assert found.origin == "sources"


def test_a_changed_source_is_told_from_the_stored_image(tiny_corpus: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_corpus.parent / "data", tmp_path / "data"))
    for path in data.glob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    found = reproduce(tiny_corpus, first_sample(tiny_corpus), data=data)
    assert found.inputs == [first_sample(tiny_corpus)]
    assert not found.equal
    assert not found.accepted


def test_a_changed_row_is_told_from_the_stored_label(tiny_corpus: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(tiny_corpus.parent / "data", tmp_path / "data"))
    sample, table = first_sample(tiny_corpus), data / "labels.csv"
    rows = table.read_text()
    swapped = re.sub(r"(?<=\.png,)[01]", lambda found: "10"[int(found[0])], rows)
    name = next(path.name for path in data.glob("*.png") if sample.startswith(hash_file(path)[:32]))
    without = "".join(row for row in rows.splitlines(keepends=True) if name not in row)
    for changed in (swapped, without):
        table.write_text(changed)
        found = reproduce(tiny_corpus, sample, data=data)
        assert found.inputs == [sample]
        assert not found.accepted
    # A folder of the images alone still does: the plan remembers the rows.
    table.unlink()
    assert reproduce(tiny_corpus, sample, data=data).equal


def test_a_changed_mask_is_told_from_the_stored_label(tmp_path: Path, inline: None) -> None:
    network = {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    draw_pictures(tmp_path / "data", 2)
    (tmp_path / "data" / "masks").mkdir()
    for index in range(2):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[4:20, 6:22] = 1
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{index:03d}.png")
    (tmp_path / "data" / "labels.csv").write_text("file,mask\n000.png,masks/000.png\n001.png,masks/001.png\n")
    save_victim(tmp_path / "victim.safetensors", "monai:unet", network)
    changes = {"data__task": "segmentation", "data__label": "mask", "victim__network": "monai:unet", "victim__arguments": network}
    corpus = run(tiny_spec(tmp_path, **changes), Options(), quiet).corpus
    sample = json.loads((corpus / "shards" / "shard-00000.json").read_text())["records"][0]["id"]
    assert reproduce(corpus, sample, data=tmp_path / "data").equal
    for path in (tmp_path / "data" / "masks").iterdir():
        Image.fromarray(np.ascontiguousarray(np.asarray(Image.open(path)).T)).save(path)
    found = reproduce(corpus, sample, data=tmp_path / "data")
    assert found.inputs == [sample]
    assert not found.accepted


def test_sources_are_decoded_from_one_state_of_their_files(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(shutil.copytree(tiny_corpus.parent / "data", tmp_path / "data"))
    plain = Reader.read

    def rewritten(self: Reader, source: Source) -> Sample:
        for name in source.images:
            Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(data / name)
        return plain(self, source)

    monkeypatch.setattr(Reader, "read", rewritten)
    assert reproduce(tiny_corpus, first_sample(tiny_corpus), data=data).equal
    assert reproduce(tiny_corpus, first_sample(tiny_corpus), data=data).inputs == [first_sample(tiny_corpus)]


def test_threads_that_a_stranger_asks_for_may_be_too_many(published: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP would end the process, in the middle of its own line."""
    monkeypatch.setattr(machine, "_startable", lambda count: False)
    path = published / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["execution"]["threads"] = 1000
    path.write_text(json.dumps(manifest))
    fuzz.reseal(published)
    for read in (lambda: reproduce(published, None, weights=weights), lambda: rescore(published, weights, False, SILENT)):
        with pytest.raises(SpecError, match=r"execution\.threads=1000: so many threads cannot be started here"):
            read()


def test_what_is_missing_is_said(published: Path, weights: Path, tmp_path: Path) -> None:
    sample = first_sample(published)
    with pytest.raises(SpecError, match=r"weights are missing: give --weights FILE with SHA-256 [0-9a-f]{64}"):
        reproduce(published, sample)
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(SpecError, match=r"holds other weights \(SHA-256 .*\) than the corpus was made against"):
        reproduce(published, sample, weights=[other])
    with pytest.raises(SpecError, match="no sample nobody"):
        reproduce(published, "nobody", weights=[weights])
    with pytest.raises(SpecError, match="needs the maker's plan"):
        reproduce(published, sample, weights=[weights], data=tmp_path)


def as_made_elsewhere(corpus: Path, **changes: object) -> None:
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["environment"] |= changes
    (corpus / "manifest.json").write_bytes(canonical_json(manifest))


@pytest.mark.filterwarnings("ignore:TF32")
def test_on_another_machine_the_share_of_differing_voxels_stays_within_the_tolerance(published: Path, weights: Path) -> None:
    """Other convolution kernels round otherwise, as another processor would."""
    as_made_elsewhere(published, processor="another one")
    with torch.backends.mkldnn.flags(enabled=False):
        found = reproduce(published, None, weights=[weights])
    assert found.environment[0].startswith("processor: another one there")
    assert found.accepted
    assert max(result.share for result in found.results) <= TOLERANCE


def test_a_difference_on_the_same_machine_is_not_accepted(published: Path, weights: Path) -> None:
    manifest = json.loads((published / "manifest.json").read_text())
    manifest["execution"]["seed"] = 1
    (published / "manifest.json").write_bytes(canonical_json(manifest))
    found = reproduce(published, first_sample(published), weights=[weights])
    assert not found.equal
    assert not found.accepted


def test_deep_verification_agrees_with_what_was_stored(published: Path, weights: Path) -> None:
    assert rescore(published, [weights], False, quiet) == []


def test_deep_verification_names_a_score_that_nobody_could_have_measured(published: Path, weights: Path) -> None:
    path = published / "shards" / "shard-00001.json"
    receipt = json.loads(path.read_text())
    receipt["records"][1]["attacks"]["smia-8"]["score_adversarial"] += 0.25
    path.write_bytes(canonical_json(receipt) + b"\n")
    manifest = json.loads((published / "manifest.json").read_text())
    manifest["shards"][1]["receipt_sha256"] = hash_file(path)
    (published / "manifest.json").write_bytes(canonical_json(manifest))
    findings = rescore(published, [weights], False, quiet)
    assert [(f.sample, f.array) for f in findings] == [(first_sample(published), "attacks/smia-8")]


def test_a_sample_in_two_splits_is_found(published: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(published, tmp_path / "other"))
    assert check_across([published, other]) == ([], [])
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["data"]["split"] = "train"
    (other / "manifest.json").write_bytes(canonical_json(manifest))
    problems, notes = check_across([published, other])
    assert any("10 samples stand in both splits" in line for line in problems)
    assert any("10 groups stand in both splits" in line for line in problems)
    manifest["privacy"]["group_key_id"] = "another"
    (other / "manifest.json").write_bytes(canonical_json(manifest))
    problems, notes = check_across([published, other])
    assert len(problems) == 1
    assert "groups cannot be compared" in notes[0]


def test_each_line_of_the_plan_is_read_once(tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards of five batches in all: neither plan nor label file is read again for each."""
    lines, listings = [], []
    plain, listed = PlannedShard.of_line, again.list_samples
    monkeypatch.setattr(PlannedShard, "of_line", lambda line, *rest: lines.append(json.loads(line)["index"]) or plain(line, *rest))
    monkeypatch.setattr(again, "list_samples", lambda *given: listings.append(given) or listed(*given))
    assert reproduce(tiny_corpus, None, data=tiny_corpus.parent / "data").equal
    assert lines == [0, 1, 2]
    assert len(listings) == 1


def test_a_corpus_is_read_once_however_many_it_is_compared_with(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("test", "validation"):
        corpus = tmp_path / split
        shutil.copytree(published, corpus)
        manifest = json.loads((corpus / "manifest.json").read_text())
        manifest["data"]["split"] = split
        (corpus / "manifest.json").write_text(json.dumps(manifest))
    read = []
    plain = ShardEntry.receipt
    monkeypatch.setattr(ShardEntry, "receipt", lambda entry, corpus: read.append(corpus) or plain(entry, corpus))
    problems, _ = check_across([published, tmp_path / "test", tmp_path / "validation"])
    assert len(problems) == 6
    assert sorted(read) == sorted([published, tmp_path / "test", tmp_path / "validation"] * 3)


def test_a_program_that_a_stranger_sends_along_runs_nothing(published: Path, tmp_path: Path) -> None:
    mark, program = tmp_path / "mark", tmp_path / "victim.pt2"
    save(program)
    rewrite(program, lambda records: sample_inputs(records, mark))
    manifest = published / "manifest.json"
    said = json.loads(manifest.read_text())
    said["victim"] |= {"network": program.name, "weights_sha256": hash_file(program), "program_sha256": hash_file(program)}
    manifest.write_text(json.dumps(said))
    for look in (lambda: reproduce(published, None, weights=[program]), lambda: rescore(published, [program], False, SILENT)):
        with pytest.raises(SpecError, match=r"may do more than compute .*--trust-code"):
            look()
    assert not mark.exists()
