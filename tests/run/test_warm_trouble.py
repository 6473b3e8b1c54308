"""Whatever is wrong with the corpus that an attack starts from is one line; who rests on a corpus is named when a patient is forgotten."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from tests.conftest import Said, quiet
from tests.run.warm_cases import COUNT, NEXT, by_sample, changed, made, write_first, write_next

from medadv.common.errors import IntegrityError, MedadvError, SpecError
from medadv.common.record import RecordError, parse
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest, manifest_bytes, read_manifest
from medadv.corpus.successors import tell_predecessor
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.run import forget as forgetting
from medadv.run.forget import forget
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The earlier corpus's folder; read only."""
    folder = tmp_path_factory.mktemp("warm")
    made(write_first(folder))
    return folder


@pytest.fixture
def home(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "home")
    return tmp_path / "home"


def resaid(corpus: Path, **changes: Any) -> None:
    """Another manifest."""
    workspace = Workspace(corpus)
    workspace.manifest.write_bytes(manifest_bytes(read_manifest(workspace).model_copy(update=changes)))


def flip(corpus: Path) -> None:
    """Other values in every perturbation, under a receipt that knows better."""
    for path in (corpus / "shards").glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["attacks/pgd/perturbation"][...] = file["attacks/pgd/perturbation"][...] // 2


def unfinished(corpus: Path) -> None:
    facts = read_manifest(Workspace(corpus)).run
    resaid(corpus, run=facts.model_copy(update={"status": "partial"}))


def other_modality(corpus: Path) -> None:
    facts = read_manifest(Workspace(corpus)).data
    resaid(corpus, data=facts.model_copy(update={"modality": "endoscopy"}))


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (shutil.rmtree, SpecError, "no corpus at .*first/corpus"),
        (unfinished, SpecError, "is not finished"),
        (other_modality, SpecError, "holds endoscopy in level8, and this corpus fundus in level8"),
        (lambda corpus: resaid(corpus, content_root="0" * 64), IntegrityError, "content root does not follow from its shards"),
        (lambda corpus: Workspace(corpus).manifest.write_bytes(b"{"), IntegrityError, "cannot be read as a manifest"),
        (lambda corpus: Workspace(corpus).receipt("shard-00000").write_bytes(b"{}"), IntegrityError, "receipt changed"),
        (lambda corpus: Workspace(corpus).shard("shard-00000").unlink(), IntegrityError, "shard-00000.h5: cannot be read"),
        (flip, IntegrityError, "attacks/pgd/perturbation of sample .* differs from its receipt"),
    ],
)
def test_a_corpus_that_is_no_start(spoil: Callable[[Path], Any], error: type[MedadvError], said: str, home: Path) -> None:
    spoil(home / "first" / "corpus")
    with pytest.raises(error, match=said):
        run(write_next(home), Options(), quiet)


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        ({"start": {"corpus": "../first/corpus", "attack": "bim"}}, "has no attack bim; it has pgd"),
        ({"start": {"corpus": "corpus"}}, "would start from itself"),
        ({"start": {"corpse": "../first/corpus"}}, r"start.corpus: Field required: write start: \{corpus: FOLDER\}"),
        ({"start": {"content_root": "0" * 64, "attack": "pgd"}}, "start.content_root is what a plan says"),
        ({"start": 5}, "start=5: name another attack of the spec, or another corpus"),
        ({"attack": "square"}, r"start: another corpus means nothing to square \(its first queries"),
        ({"attack": "universal", "fit": {"split": "train"}}, "means nothing to universal"),
        ({"attack": "ensemble", "members": [{"attack": "pgd"}]}, "means nothing to ensemble"),
        ({"attack": "sea"}, "means nothing to sea"),
    ],
)
def test_what_cannot_be_meant_is_said(attack: dict[str, Any], said: str, home: Path) -> None:
    with pytest.raises(SpecError, match=said):
        run(changed(write_next(home), **attack), Options(), quiet)


def test_a_corpus_of_other_images_is_no_start_and_one_otherwise_preprocessed_starts_none(home: Path) -> None:
    table = home / "first" / "data" / "rest.csv"
    head, *rows = (home / "first" / "data" / "all.csv").read_text().splitlines()
    table.write_text("\n".join([head, *rows[4:]]) + "\n")
    with pytest.raises(SpecError, match="holds none of these 2 samples"):
        run(write_next(home, data__path="../first/data/rest.csv"), Options(), quiet)
    result = run(write_next(home, preprocess__size=[36, 36]), Options(), quiet)
    assert (result.manifest.starts["pgd"].warm, result.manifest.starts["pgd"].cold) == (0, COUNT)
    # All that began as they would without end as they would without.
    cold = run(write_next(home, {"pgd": {**NEXT, "start": None}}, "cold", preprocess__size=[36, 36]), Options(), quiet)
    for sample, delta in by_sample(cold.corpus, "attacks/pgd/perturbation").items():
        np.testing.assert_array_equal(delta, by_sample(result.corpus, "attacks/pgd/perturbation")[sample])


def test_a_corpus_that_changed_is_needed_by_nobody_but_new_shards(home: Path) -> None:
    spec = write_next(home)
    corpus = run(spec, Options(), quiet).corpus
    whole = read_manifest(Workspace(corpus)).content_root
    shutil.rmtree(home / "first" / "corpus")
    made(changed(home / "first" / "spec.yaml", epsilon=6))
    assert run(spec, Options(), quiet).new_shards == 0
    (corpus / "shards" / "shard-00001.json").unlink()
    with pytest.raises(SpecError, match=r"has changed since: its content root is [0-9a-f]{64}, not [0-9a-f]{64}"):
        run(spec, Options(), quiet)
    shutil.copytree(home / "first" / "corpus", home / "third")
    changed(spec, start={"corpus": "../third"})
    with pytest.raises(SpecError, match=r"attacks\.pgd\.start\.content_root"):
        run(spec, Options(), quiet)
    assert read_manifest(Workspace(corpus)).content_root == whole


def test_no_manifest_names_a_folder(home: Path) -> None:
    manifest = json.loads((home / "first" / "corpus" / "manifest.json").read_text())
    manifest["attacks"]["pgd"]["start"] = {"corpus": "/etc"}
    with pytest.raises(RecordError, match=r"attacks\.pgd\.start names a folder"):
        parse(Manifest, json.dumps(manifest))


def group_of(corpus: Path, sample: str) -> str:
    return by_sample(corpus, "group_id")[sample].decode()


def test_who_rests_on_a_corpus_is_named_and_can_forget_without_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = home / "first" / "corpus"
    corpus = run(write_next(home), Options(), quiet).corpus
    third = run(write_next(home, {"pgd": {**NEXT, "start": {"corpus": "../next/corpus"}}}, "third"), Options(), quiet).corpus
    sample = min(by_sample(earlier, "sample_id"))
    told = Said()
    result = forget(earlier, group_of(earlier, sample), Options(), told)
    commands = [f"medadv forget {later} --group {group_of(later, sample)}" for later in (corpus, third)]
    for command, later in zip(commands, (corpus, third), strict=True):
        (line,) = [text for text in told if text.startswith(f"{later} rests on {earlier}")]
        assert command in line
        assert line in result.as_dict()["notes"]
    # What its samples started from is gone, and is not needed.
    before, group = {name: by_sample(corpus, f"attacks/pgd/{name}") for name in ("start", "warm")}, group_of(corpus, sample)
    with monkeypatch.context() as killed:
        killed.setattr(forgetting, "make_missing", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            forget(corpus, group, Options(), quiet)
    assert list(corpus.glob(".medadv/plans/0001/starts/pgd/*.npz"))
    made(home / "next" / "spec.yaml")
    for name, values in before.items():
        after = by_sample(corpus, f"attacks/pgd/{name}")
        assert len(after) == COUNT - 2
        assert all(np.array_equal(value, values[other]) for other, value in after.items())
    assert verify(corpus) == []
    assert reproduce(corpus, None).equal
    assert not list(corpus.glob(".medadv/plans/*/starts"))
    shutil.rmtree(third)
    told = Said()
    forget(corpus, group, Options(), told)
    assert any(f"{third} rests on {corpus}" in text and "cannot be read there" in text for text in told)


def test_a_corpus_that_cannot_be_told_of_later_ones_is_a_start_all_the_same(home: Path) -> None:
    (home / "first" / "corpus" / ".medadv" / "successors").write_text("no folder")
    told = Said()
    run(write_next(home), Options(), told)
    assert any("cannot be told that" in text for text in told)
    shutil.rmtree(home / "first" / "corpus" / ".medadv")
    result = run(write_next(home, name="published"), Options(), quiet)
    assert result.manifest.starts["pgd"].warm
    assert not (home / "first" / "corpus" / ".medadv").exists()
    assert yaml.safe_load((home / "published" / "spec.yaml").read_text())["attacks"]["pgd"] == NEXT


def test_a_run_that_sweeps_the_earlier_corpus_meanwhile_keeps_no_note_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, later, replace, swept = Workspace(tmp_path / "first"), tmp_path / "next", Path.replace, []
    earlier.make()

    def late(self: Path, target: Path) -> Path:
        if not swept:
            swept.append(self.name)
            private.sweep(earlier)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", late)
    assert tell_predecessor(earlier.root, later) is None
    assert [json.loads(note.read_text()) for note in earlier.successors.iterdir()] == [str(later)]
    assert len(swept) == 1
