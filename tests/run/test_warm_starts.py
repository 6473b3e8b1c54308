"""An attack goes on where an earlier corpus left its samples: what is stored, the same bits by hand, and from what remains."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tests.conftest import Said, quiet
from tests.run.warm_cases import COUNT, EARLIER, FIRST, NEXT, by_sample, made, write_first, write_next
from torch.nn.functional import cross_entropy

from medadv.attacks.feasible import random_start, start_seed
from medadv.batches.equipment import equip
from medadv.common.errors import SpecError
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import find_damage, verify
from medadv.plan.frozen import generations
from medadv.prepare.describe import describe
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.part import run_part
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished corpora, `first/corpus` and `next/corpus`, whose attack starts from that; read only."""
    folder = tmp_path_factory.mktemp("warm")
    made(write_first(folder))
    made(write_next(folder))
    return folder


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    shutil.copytree(home, tmp_path / "home")
    for corpus in (tmp_path / "home" / name / "corpus" for name in ("first", "next")):
        # Notes of where others lie are absolute.
        for path in (corpus / ".medadv" / "predecessors.json", *(corpus / ".medadv" / "successors").glob("*.json")):
            if path.exists():
                path.write_text(path.read_text().replace(str(home), str(tmp_path / "home")))
    return tmp_path / "home"


def test_samples_begin_where_the_earlier_corpus_left_them_inside_the_new_ball(home: Path) -> None:
    corpus = home / "next" / "corpus"
    start, warm, before = by_sample(corpus, "attacks/pgd/start"), by_sample(corpus, "attacks/pgd/warm"), by_sample(
        home / "first" / "corpus", "attacks/pgd/perturbation"
    )
    assert len(before) == EARLIER
    for sample, image in by_sample(corpus, "image").items():
        image = image.astype(int)
        drawn = random_start(image.shape, 4, start_seed(0, sample, "pgd")).numpy()
        left = np.clip(before.get(sample, drawn).astype(int), -4, 4)
        np.testing.assert_array_equal(start[sample], np.clip(image + left, 0, 255) - image)
        assert warm[sample] == (sample in before)
    with h5py.File(corpus / "shards" / "shard-00000.h5") as file:
        mine, other = file["attacks/pgd/start"], file["attacks/pgd/perturbation"]
        assert (mine.dtype, mine.shape, mine.chunks, mine.fletcher32) == (other.dtype, other.shape, other.chunks, True)


def test_the_same_bits_by_hand(home: Path) -> None:
    corpus = home / "next" / "corpus"
    equipment = equip(corpus, 0, (3, 32, 32), False)
    with h5py.File(corpus / "shards" / "shard-00000.h5") as file:
        rows = slice(0, 2)
        image, delta = (torch.from_numpy(file[name][rows]).float() for name in ("image", "attacks/pgd/start"))
        truth, stored = torch.from_numpy(file["label"][rows]).long(), file["attacks/pgd/perturbation"][rows]
    low, high = (-image).clamp(min=-4), (255 - image).clamp(max=4)
    for _ in range(2):
        delta.requires_grad_()
        loss = cross_entropy(equipment.victim.attacked.forward(image + delta), truth, reduction="sum")
        delta = (delta + torch.autograd.grad(loss, delta)[0].sign()).detach().clamp(low, high)
    np.testing.assert_array_equal(delta.numpy(), stored)


def test_manifest_plan_and_report_name_it_by_its_content_root_alone(copy: Path) -> None:
    corpus = copy / "next" / "corpus"
    manifest, root = read_manifest(Workspace(corpus)), read_manifest(Workspace(copy / "first" / "corpus")).content_root
    facts = manifest.starts["pgd"]
    assert (facts.content_root, facts.attack, facts.warm, facts.cold) == (root, "pgd", EARLIER, COUNT - EARLIER)
    plan = generations(Workspace(corpus).plans)[0]
    assert plan.settings.attacks["pgd"].model_dump(mode="json")["start"] == {"content_root": root, "attack": "pgd"}
    write_report(corpus)
    page = (corpus / "report.html").read_text()
    assert f"{EARLIER} samples started from pgd of the corpus with content root {root} (the other 2 as without)" in page
    assert "arXiv:1912.11969" in page
    for path in corpus.rglob("*"):
        if path.is_file() and ".medadv" not in path.parts:
            assert b"first/corpus" not in path.read_bytes(), path
    facts_of_plan = describe(copy / "next" / "spec.yaml", Options(out=copy / "other"), quiet)
    cold = describe(write_next(copy, {"pgd": {**NEXT, "start": None}}, "cold"), Options(), quiet)
    assert any(root in note for note in facts_of_plan["notes"])  # type: ignore[union-attr]
    same = ("samples", "new_shards", "forward_passes_per_sample", "backward_passes_per_sample")
    assert [facts_of_plan[key] for key in same] == [cold[key] for key in same]


def test_corpus_and_weights_are_enough(copy: Path) -> None:
    corpus = copy / "next" / "corpus"
    shutil.rmtree(copy / "first" / "corpus")
    assert verify(corpus) == []
    assert reproduce(corpus, None).equal
    assert run(copy / "next" / "spec.yaml", Options(), quiet).new_shards == 0
    with h5py.File(corpus / "shards" / "shard-00001.h5", "r+") as file:
        # The last patient began at random: anything else is no start of such a sample.
        assert file["attacks/pgd/warm"][...].min() == 0
        file["attacks/pgd/start"][...] = 0
    assert not reproduce(corpus, None).equal
    (corpus / "shards" / "shard-00001.json").unlink()
    with pytest.raises(SpecError, match=r"attacks.pgd.start: no corpus at .*first/corpus"):
        run(copy / "next" / "spec.yaml", Options(), quiet)


def test_a_changed_byte_of_a_start_is_found(copy: Path) -> None:
    path = copy / "next" / "corpus" / "shards" / "shard-00000.h5"
    extents = json.loads(path.with_suffix(".json").read_text())["extents"]["attacks/pgd/start"]
    data = bytearray(path.read_bytes())
    data[extents[1][1] + 3] ^= 1
    path.write_bytes(data)
    found = find_damage(copy / "next" / "corpus")
    assert [finding.array for finding in found if finding.sample] == ["attacks/pgd/start"]


def test_parts_and_resumed_runs_give_the_same_bits(copy: Path) -> None:
    spec, root = copy / "next" / "spec.yaml", read_manifest(Workspace(copy / "next" / "corpus")).content_root
    assert run_part(spec, "1/2", Options(out=copy / "other"), quiet, Stop()).shards == 1
    # The corpus before may be moved meanwhile, if the spec says where to.
    shutil.move(copy / "first" / "corpus", copy / "moved")
    moved = write_next(copy, {"pgd": {**NEXT, "start": {"corpus": "../moved"}}})
    assert run(moved, Options(out=copy / "other"), quiet).manifest.content_root == root


def test_one_warm_step_does_more_than_a_cold_one(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "first", tmp_path / "first")
    one = {**FIRST, "epsilon": 8, "step": 1, "steps": 1}
    spec = write_next(tmp_path, {"warm": {**one, "start": {"corpus": "../first/corpus", "attack": "pgd"}}, "cold": one})
    shutil.copy(tmp_path / "first" / "victim.safetensors", tmp_path / "next")
    corpus = made(spec)
    warm, cold = (by_sample(corpus, f"attacks/{name}/score_adversarial") for name in ("warm", "cold"))
    known = by_sample(tmp_path / "first" / "corpus", "sample_id")
    assert sum(warm[sample] <= cold[sample] for sample in known) >= EARLIER - 1
    # Of samples that the earlier corpus does not hold, the seed of the attack's own name decides.
    assert [verify(corpus), reproduce(corpus, None).equal] == [[], True]


def test_every_attack_that_follows_a_gradient_goes_on(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "first", tmp_path / "first")
    common: dict[str, Any] = {"epsilon": 10, "steps": 2, "start": {"corpus": "../first/corpus", "attack": "pgd"}}
    attacks = {kind: {"attack": kind, **common} for kind in ("mifgsm", "smia", "smia-listing")}
    attacks |= {kind: {"attack": kind, **common, "restarts": 2} for kind in ("pgd", "apgd")}
    told = Said()
    result = run(write_next(tmp_path, attacks, data__path="../first/data/labels.csv"), Options(), told)
    assert {name: facts.cold for name, facts in result.manifest.starts.items()} == dict.fromkeys(attacks, 0)
    assert verify(result.corpus) == []
    assert reproduce(result.corpus, None).equal
    assert sum("holds 4 of 4 samples" in text for text in told) == len(attacks)
