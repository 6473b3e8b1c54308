"""What is published of a universal perturbation is held against manifest and shards; who was fitted is forgotten; corpora grow."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.conftest import Said, quiet
from tests.run.universal_cases import ATTACKED, FITTED, interrupt, made_in, shared, write_data

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.hashing import hash_array, hash_bytes, hash_file
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import manifest_bytes, read_manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import find_damage, verify
from medadv.plan.fitted import fits_of
from medadv.plan.frozen import generations
from medadv.prepare.request import Options
from medadv.run.forget import forget
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus with a universal attack and PGD; read only."""
    return made_in(tmp_path_factory.mktemp("universal"))


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    """A copy of it with its inputs."""
    shutil.copytree(made.parent, tmp_path / "copy")
    return tmp_path / "copy" / "corpus"


def test_a_wrong_byte_is_found(corpus: Path) -> None:
    path = corpus / "attacks" / "one.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [str(finding) for finding in find_damage(corpus)] == ["attacks/one.h5: bytes differ from the manifest"]


def resigned(corpus: Path, **changes: Any) -> None:
    """A manifest that covers what lies in `attacks`, as whoever changes a corpus can write it."""
    manifest = read_manifest(Workspace(corpus))
    files = {**manifest.files, "attacks/one.h5": hash_file(corpus / "attacks" / "one.h5")}
    data = manifest_bytes(manifest.model_copy(update={"files": files, **changes}))
    (corpus / "manifest.json").write_bytes(data)
    (corpus / "manifest.json.sha256").write_text(f"{hash_bytes(data)}  manifest.json\n")


def found(corpus: Path) -> str:
    return "\n".join(str(each) for each in find_damage(corpus) if each.file != "croissant.json")


def test_another_perturbation_is_found_whatever_the_manifest_covers(corpus: Path) -> None:
    with h5py.File(corpus / "attacks" / "one.h5", "r+") as file:
        one = file["perturbation"][...]
        one[0, 3, 3] = 9
        file["perturbation"][...] = one
    resigned(corpus)
    said = found(corpus)
    assert "is not the perturbation that the manifest names" in said
    assert "perturbation of 9 is larger than epsilon 8" in said
    with pytest.raises(IntegrityError, match="another perturbation than was planned with"):
        reproduce(corpus, None)
    facts = read_manifest(Workspace(corpus)).universal["one"]
    one[0, 3, 3] = 1
    one[0, 4, 4] = 0 if one[0, 4, 4] else 5
    with h5py.File(corpus / "attacks" / "one.h5", "r+") as file:
        file["perturbation"][...] = one
    resigned(corpus, universal={"one": facts.model_copy(update={"perturbation_sha256": hash_array(one)})})
    # The shards tell: no sample was given this one.
    assert "is not what all samples of one share, inside the sample's bounds" in found(corpus)
    assert not reproduce(corpus, None).equal


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.create_dataset("more", data=[1]), "holds more, or something else"),
        (lambda file: file.attrs.create("unit", "metres"), "attribute unit"),
        (lambda file: file.__setitem__("link", h5py.SoftLink("/perturbation")), "is a link that leads elsewhere"),
        (lambda file: (file.__delitem__("perturbation"), file.create_dataset("perturbation", data=[1.0])), "has shape"),
        (lambda file: (file.__delitem__("perturbation"), file.create_dataset("perturbation", data=np.zeros((3, 32, 32)))), "is float64"),
    ],
)
def test_what_is_no_perturbation_is_not_read(spoil: Callable[[Any], Any], said: str, corpus: Path) -> None:
    with h5py.File(corpus / "attacks" / "one.h5", "r+") as file:
        spoil(file)
    resigned(corpus)
    assert said in found(corpus)
    with pytest.raises(IntegrityError):
        reproduce(corpus, None)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("epsilon", 9.0, "attribute epsilon is 9.0, not 8.0"),
        ("parameters", "{}", "settings of one differ"),
        ("fitted_samples", 7, "attribute fitted_samples is 7, not 6"),
    ],
)
def test_what_it_says_of_itself_is_held_against_the_manifest(key: str, value: Any, said: str, corpus: Path) -> None:
    with h5py.File(corpus / "attacks" / "one.h5", "r+") as file:
        file.attrs[key] = value
    resigned(corpus)
    assert said in found(corpus)


def test_a_manifest_that_leaves_it_out_is_found(corpus: Path) -> None:
    resigned(corpus, universal={})
    assert "says nothing of what one shares" in found(corpus)


class Killed(BaseException):
    """What no handler expects."""


def test_forgetting_who_was_fitted_fits_again_and_makes_all_shards_anew(corpus: Path) -> None:
    workspace = Workspace(corpus)
    before = shared(corpus)
    home = fits_of(generations(workspace.plans))["one"]
    gone = home.samples.samples[0]
    said = Said()
    result = forget(corpus, gone.group, Options(), said)
    assert any("one was fitted to it too" in line for line in said)
    assert result.new_shards == 2
    assert result.manifest.samples == ATTACKED
    assert result.manifest.universal["one"].samples == FITTED - 2
    assert result.manifest.generations[-1].replaces == [0, 1]
    assert (shared(corpus) != before).any()
    assert verify(corpus) == []
    assert reproduce(corpus, None).equal
    left = b"".join(path.read_bytes() for path in corpus.rglob("*") if path.is_file() and path.name not in ("forgotten.json", "run.jsonl"))
    assert gone.id.encode() not in left
    assert gone.group.encode() not in left
    # What was fitted without the group is what a corpus without it would have.
    again = run(corpus.parent / "spec.yaml", Options(), quiet)
    assert again.new_shards == 0
    alone = corpus.parent / "alone"
    shutil.copytree(corpus.parent / "data", alone / "data")
    table = alone / "data" / "labels.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if f",{gone.source.group}," not in line) + "\n")
    shutil.copy(corpus.parent / "victim.safetensors", alone)
    shutil.copy(corpus.parent / "spec.yaml", alone)
    np.testing.assert_array_equal(shared(run(alone / "spec.yaml", Options(), quiet).corpus), shared(corpus))


def test_a_forget_that_is_killed_while_it_fits_is_told_of_and_goes_on(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = fits_of(generations(Workspace(corpus).plans))["one"]
    group, before = home.samples.samples[0].group, shared(corpus)
    with monkeypatch.context() as patch:

        def die() -> None:
            raise Killed

        interrupt(patch, 3, die)
        with pytest.raises(Killed):
            forget(corpus, group, Options(), quiet)
    np.testing.assert_array_equal(shared(corpus), before)
    assert verify(corpus) == []
    said = Said()
    run(corpus.parent / "spec.yaml", Options(), said)
    assert any("is not done" in line for line in said)
    forget(corpus, group, Options(), quiet)
    assert (shared(corpus) != before).any()
    assert verify(corpus) == []


def test_a_forget_that_is_killed_after_it_has_fitted_leaves_nothing_that_counts(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next generation lies in the folder in which it was killed."""
    workspace = Workspace(corpus)
    home, before = fits_of(generations(workspace.plans))["one"], shared(corpus)

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("medadv.run.forget.freeze", die)
        with pytest.raises(Killed):
            forget(corpus, home.samples.samples[0].group, Options(), quiet)
    assert (workspace.plan(1) / "fitted-one.h5").exists()
    write_data(corpus.parent, 16)
    result = run(corpus.parent / "spec.yaml", Options(), quiet)
    assert result.manifest.samples == ATTACKED + 4
    assert fits_of(generations(workspace.plans))["one"].folder == home.folder
    np.testing.assert_array_equal(shared(corpus), before)
    assert verify(corpus) == []


def test_who_was_attacked_is_forgotten_without_another_fit(corpus: Path) -> None:
    with h5py.File(corpus / "shards" / "shard-00000.h5") as file:
        group = file["group_id"][0].decode()
    before = (corpus / "attacks" / "one.h5").read_bytes()
    result = forget(corpus, group, Options(), quiet)
    assert result.manifest.samples == ATTACKED - 2
    assert (corpus / "attacks" / "one.h5").read_bytes() == before
    assert verify(corpus) == []


def test_new_images_are_given_what_the_first_plan_fitted(corpus: Path) -> None:
    before = (corpus / "attacks" / "one.h5").read_bytes()
    write_data(corpus.parent, 16)
    said = Said()
    result = run(corpus.parent / "spec.yaml", Options(), said)
    assert any("nothing is fitted again" in line for line in said)
    assert result.manifest.samples == ATTACKED + 4
    assert (corpus / "attacks" / "one.h5").read_bytes() == before
    assert verify(corpus) == []
    table = corpus.parent / "data" / "labels.csv"
    # A patient that was fitted is not attacked later.
    table.write_text(table.read_text().replace(",p0,train", ",p0,test"))
    with pytest.raises(SpecError, match=r"1 groups \(2 samples\) of split 'test' were fitted by a universal"):
        run(corpus.parent / "spec.yaml", Options(), quiet)
