"""A victim that is no better than an answer that ignores the image is said loudly, and success is counted over what could be attacked."""

import csv
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import CLASSIFIER, InlinePool, draw_pictures, quiet, save_victim, tiny_spec
from tests.export.export_cases import nifti_corpus
from tests.golden.corpora import write_case

from medadv.cli.console import tell_result
from medadv.common.hashing import hash_file
from medadv.corpus.baseline import baseline
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Metrics, read_manifest
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run import cluster
from medadv.run.run import Result, run
from medadv.spec.reading import load_spec
from medadv.store.reader import read_small
from medadv.victims.loading import VictimRequest

pytestmark = pytest.mark.usefixtures("inline")


def made(folder: Path, labels: list[int] | None = None, **changes: Any) -> Result:
    """A corpus of six pictures, with labels in the order of their names."""
    draw_pictures(folder / "data", 6)
    if labels is not None:
        rows = [{"file": f"{i:03d}.png", "grade": grade} for i, grade in enumerate(labels)]
        with (folder / "data/labels.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["file", "grade"])
            writer.writeheader()
            writer.writerows(rows)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return run(tiny_spec(folder, sanity_samples=0, **changes), Options(), quiet)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """What the victim says of each picture, in the order of their names: its probabilities are ranked, so that both classes occur."""
    folder = tmp_path_factory.mktemp("answers")
    draw_pictures(folder / "data", 6)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = load_spec(tiny_spec(folder))
    victim = VictimRequest(spec.victim, "classification", folder).load(torch.device("cpu"), (3, 32, 32)).scored
    pictures = np.stack([np.asarray(Image.open(folder / f"data/{i:03d}.png")).transpose(2, 0, 1) for i in range(6)])
    return [int(np.asarray(answer.answer)) for answer in victim.predict(torch.from_numpy(pictures.astype(np.float32)))]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, answers: list[int]) -> Result:
    """A corpus whose victim is wrong about every picture. Shards are made inline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))
        return made(tmp_path_factory.mktemp("wrong"), [1 - answer for answer in answers])


def test_a_victim_that_is_always_wrong_is_said_everywhere(wrong: Result, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = wrong.manifest
    assert manifest.baseline is not None
    assert manifest.baseline.warning is not None
    for cause in ("normalize", "unit", "probabilities instead of logits", "swapped axes", "classes", "missing labels"):
        assert cause in manifest.baseline.warning
    for metrics in manifest.metrics.values():
        assert (metrics.attackable, metrics.success) == (0, None)
    tell_result(wrong)
    *_, beside, last = capsys.readouterr().out.splitlines()
    assert "an answer that ignores the image has" in beside
    assert last == f"  WARNING: {manifest.baseline.warning}"
    tell_result(wrong)
    assert capsys.readouterr().out.count("none could be attacked: no success rate") == 2
    stored = json.loads((wrong.corpus / "manifest.json").read_text())
    assert stored["baseline"] == wrong.as_dict()["baseline"]
    assert stored["metrics"]["pgd-8"]["success"] is None
    assert verify(wrong.corpus) == []
    page = write_report(wrong.corpus, wrong.corpus.parent / "report.html").read_text()
    assert manifest.baseline.warning in page
    assert '<td>n/a</td><td class="number">0</td>' in page


def test_success_counts_what_could_be_attacked(tmp_path: Path, answers: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    # Right about four of six.
    labels = [answer if i < 4 else 1 - answer for i, answer in enumerate(answers)]
    result = made(tmp_path, labels)
    rows = {"able": 0, "won": 0}
    for path in (result.corpus / "shards").glob("*.h5"):
        with h5py.File(path) as file:
            right = file["label"][...] == file["attacks/pgd-8/prediction_clean"][...]
            rows["able"] += int(right.sum())
            rows["won"] += int(file["attacks/pgd-8/success"][...][right].sum())
    metrics = result.manifest.metrics["pgd-8"]
    assert (metrics.attackable, metrics.success) == (4, rows["won"] / 4)
    assert rows["able"] == 4
    tell_result(result)
    assert f"success {rows['won'] / 4:.0%} of 4 that could be attacked" in capsys.readouterr().out
    assert verify(result.corpus) == []
    # A rate that the shards do not give is found, and so is another number.
    for change in ({"success": (rows["won"] + 1) / 5}, {"attackable": 5}):
        copy = tmp_path / f"copy-{next(iter(change))}"
        shutil.copytree(result.corpus, copy)
        rewrite(copy, lambda document, change=change: document["metrics"]["pgd-8"].update(change))
        assert any("pgd-8" in problem for problem in verify(copy))


def rewrite(corpus: Path, change: Any) -> None:
    """Change a manifest, and write the hash that belongs to it."""
    path = corpus / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    (corpus / "manifest.json.sha256").write_text(f"{hash_file(path)}  manifest.json\n")


def test_a_corpus_without_the_keys_is_read_as_it_was_made(tiny_corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_corpus.parent, tmp_path / "copy")
    corpus = tmp_path / "copy" / "corpus"

    def earlier(document: Any) -> None:
        del document["baseline"]
        for name, metrics in document["metrics"].items():
            del metrics["attackable"]
            counts = [read_small(path)[f"attacks/{name}/success"] for path in sorted((corpus / "shards").glob("*.h5"))]
            metrics["success"] = float(np.concatenate(counts).mean())

    rewrite(corpus, earlier)
    before = (corpus / "manifest.json").read_bytes()
    assert verify(corpus) == []
    assert "ignores the image" not in write_report(corpus).read_text()
    again = run(corpus.parent / "spec.yaml", Options(), quiet)
    assert (again.new_shards, again.as_dict()["baseline"], again.as_dict()["attacks"]["pgd-8"]["attackable"]) == (0, None, None)
    tell_result(again)
    assert (corpus / "manifest.json").read_bytes() == before
    # What decided the axes of boxes then still does.
    manifest = read_manifest(Workspace(corpus))
    window = manifest.victim.normalize.model_copy(update={"window": (0.0, 255.0)})
    changed = manifest.victim.model_copy(update={"normalize": window})
    assert (manifest.x_first, manifest.model_copy(update={"victim": changed}).x_first) == (False, True)
    now = read_manifest(Workspace(tiny_corpus))
    assert not now.model_copy(update={"victim": changed}).x_first
    # It grows with the keys.
    draw_pictures(corpus.parent / "data", 12)
    grown = run(corpus.parent / "spec.yaml", Options(), quiet)
    assert grown.manifest.baseline is not None
    assert grown.manifest.metrics["pgd-8"].attackable is not None
    assert verify(corpus) == []


def test_masks_and_boxes_have_baselines(tmp_path: Path) -> None:
    for task, answer in (("segmentation", "the pixelwise commonest mask"), ("detection", "the same box a class in every image")):
        result = run(write_case(task, tmp_path / task), Options(), quiet)
        found = result.manifest.baseline
        assert found is not None
        assert found.answer == answer
        # Weights by a formula know nothing: masks of both volumes are nearly the same, boxes lie nearly in one place.
        assert found.ignoring_image is not None
        assert found.ignoring_image > 0.5
        assert found.warning is not None
        assert result.manifest.metrics["pgd"].attackable in range(5)
        assert verify(result.corpus) == []
    with h5py.File(next((tmp_path / "segmentation/corpus/shards").glob("*.h5"))) as file:
        one = file["label"][...]
    assert one.any()


def test_volumes_of_several_shapes_meet_on_one_grid(tmp_path: Path) -> None:
    corpus = nifti_corpus(tmp_path, 3)
    manifest = read_manifest(Workspace(corpus))
    shards = [(corpus / shard.path, read_small(corpus / shard.path)) for shard in manifest.shards]
    metrics = Metrics(metric="dice", clean=0.2, adversarial=0.1, all={}, success=None, attackable=0)
    found = baseline(manifest.data, metrics, shards)
    assert found.ignoring_image is not None
    assert 0 < found.ignoring_image < 1
    # At the constant answer's own Dice it is warned of, above it is not.
    for clean, warned in ((found.ignoring_image, True), (found.ignoring_image + 1e-6, False), (None, False)):
        again = baseline(manifest.data, metrics.model_copy(update={"clean": clean}), shards)
        assert (again.warning is not None) == warned
    # A single mask is its own commonest one, which says nothing.
    alone = [shards[0]] if len(shards[0][1]["sample_id"]) == 1 else []
    assert all(baseline(manifest.data, metrics, [each]).ignoring_image is None for each in alone)
