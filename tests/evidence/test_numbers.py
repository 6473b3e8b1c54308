"""Numbers of a manifest that are forged, with every hash made anew: `verify` works them out again from the records."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.corpus.corpus_fuzz import fuzz

from medadv.evidence.verify import find_damage


@pytest.fixture
def copy(tiny_corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))


def metrics(said: Any, **changes: Any) -> None:
    said["metrics"]["pgd-8"].update(changes)


def before_attackable(said: Any, success: float) -> None:
    """As manifests were written when success was counted over all samples."""
    for attack, found in said["metrics"].items():
        del found["attackable"]
        found["success"] = success if attack == "pgd-8" else found["success"]


def noise(said: Any) -> None:
    """As strong as the attack, and no word of it."""
    sanity = said["sanity"]
    sanity["noise"]["success"] = sanity["noise"]["white_box"] = 1.0
    sanity["warnings"] = []


FORGED: list[tuple[str, Callable[[Any], object]]] = [
    ("metrics.pgd-8.clean is 0.99", lambda m: metrics(m, clean=0.99)),
    ("metrics.pgd-8.adversarial is 0.0123", lambda m: metrics(m, adversarial=0.0123)),
    ("metrics.pgd-8.metric is accuracy", lambda m: metrics(m, metric="accuracy")),
    ("metrics.pgd-8.all.accuracy.clean is 0.99", lambda m: m["metrics"]["pgd-8"]["all"]["accuracy"].update(clean=0.99)),
    ("metrics.pgd-8.success is 0.123", lambda m: metrics(m, success=0.123)),
    ("metrics.pgd-8.attackable is 3", lambda m: metrics(m, attackable=3)),
    ("metrics.pgd-8.success is 0.123", lambda m: before_attackable(m, 0.123)),
    ("metrics of ['pgd-8']", lambda m: m["metrics"].pop("smia-8")),
    ("says 11 samples", lambda m: m.update(samples=11)),
    ("the manifest says 1", lambda m: m.update(quarantined=1)),
    ("generation 0 of 11 samples", lambda m: m["generations"][0].update(samples=11)),
    ("generation differs from the manifest", lambda m: m["shards"][1].update(generation=7)),
    ("shard-00002.h5 belongs to no generation", lambda m: m["generations"][0].update(shards=2)),
    ("lists a shard twice", lambda m: m["shards"].append(m["shards"][0])),
    ("says determinism 'tolerance'", lambda m: m["determinism"].update(level="tolerance")),
    ("says determinism", lambda m: m["determinism"].update(repeated=[])),
    ("a sample that is not in the corpus", lambda m: m["sanity"]["sample_ids"].__setitem__(0, "f" * 32)),
    ("sanity checks on 7 samples", lambda m: m["sanity"].update(samples=7)),
    ("sanity.worst_case is 9", lambda m: m["sanity"]["worst_case"].update(success=9.0)),
    ("sanity.warnings leave out", noise),
]


@pytest.mark.parametrize(("what", "forge"), FORGED)
def test_a_forged_number_is_found(copy: Path, what: str, forge: Callable[[Any], object]) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_bytes())
    forge(manifest)
    path.write_text(json.dumps(manifest))
    fuzz.reseal(copy)
    found = find_damage(copy)
    assert any(what in str(finding) for finding in found), found


def test_success_over_all_samples_is_what_an_older_manifest_says(copy: Path) -> None:
    records = [record for path in sorted((copy / "shards").glob("*.json")) for record in json.loads(path.read_bytes())["records"]]
    manifest = json.loads((copy / "manifest.json").read_bytes())
    before_attackable(manifest, 0)
    for attack, found in manifest["metrics"].items():
        found["success"] = sum(record["attacks"][attack]["success"] for record in records) / len(records)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    fuzz.reseal(copy)
    assert find_damage(copy) == []


def test_hashes_made_anew_of_a_whole_corpus_are_no_finding(copy: Path) -> None:
    fuzz.reseal(copy)
    assert find_damage(copy) == []


@pytest.mark.parametrize(
    "forge",
    [
        lambda text: text.replace("not for diagnosis or any clinical use", "diagnosis"),
        lambda text: text.replace('"license": "', '"license": "CC0; before: '),
        lambda text: json.dumps(json.loads(text)),
        lambda text: "",
        lambda text: "\udcff" + text,
    ],
)
def test_metadata_that_does_not_follow_from_the_manifest_is_found(copy: Path, forge: Callable[[str], str]) -> None:
    path = copy / "croissant.json"
    text = path.read_text()
    path.write_bytes(forge(text).encode(errors="surrogateescape"))
    assert path.read_text(errors="replace") != text
    fuzz.reseal(copy, metadata=False)
    assert [str(finding) for finding in find_damage(copy)] == ["croissant.json: says what does not follow from the manifest"]


def test_metadata_follows_from_a_forged_manifest_no_more(copy: Path) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["data"]["licence"] = "CC0-1.0"
    path.write_text(json.dumps(manifest))
    fuzz.reseal(copy, metadata=False)
    assert [finding.file for finding in find_damage(copy)] == ["croissant.json"]


def test_a_lost_sample_stands_in_the_quarantine_list(copy: Path) -> None:
    path = copy / "shards" / "shard-00001.json"
    receipt = json.loads(path.read_bytes())
    receipt["quarantined"] = [{"sample": "a" * 32, "code": "not-found", "message": "gone", "advice": "look"}]
    path.write_text(json.dumps(receipt))
    fuzz.reseal(copy)
    assert any("its receipt says was lost" in str(finding) for finding in find_damage(copy))
