"""A stranger's corpus: every reader refuses what leads out of it, what is larger than it says, and what HDF5 never gets done with."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.conftest import Said, quiet
from tests.corpus.corpus_fuzz import fuzz
from tests.training.small_corpora import classification

from medadv.common.errors import IntegrityError, MedadvError
from medadv.common.printable import cell, printable
from medadv.corpus.manifest import Manifest
from medadv.evidence.finding import Finding
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import find_damage
from medadv.export.export import Request, export
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.forget import forget
from medadv.store import examine
from medadv.training.dataset import CorpusDataset
from medadv.training.monai_reader import CorpusReader, datalist

SHARD = "shards/shard-00000.h5"


@pytest.fixture
def copy(tiny_corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))


def checked(corpus: Path) -> None:
    if findings := find_damage(corpus):
        raise IntegrityError(str(findings[0]))


READERS: dict[str, Callable[[Path], object]] = {
    "verify": checked,
    "report": lambda corpus: write_report(corpus, corpus.parent / "report.html"),
    "export": lambda corpus: export(corpus, Request("png", corpus.parent / "out", clean=True), quiet),
    "reproduce": lambda corpus: reproduce(corpus, None),
    "forget": lambda corpus: forget(corpus, "0" * 32, Options(), quiet),
    "CorpusDataset": lambda corpus: CorpusDataset(corpus)[0],
    "datalist": datalist,
    "CorpusReader": lambda corpus: CorpusReader().get_data([f"{corpus / SHARD}#0"]),
}


def refused(corpus: Path, what: str, readers: dict[str, Callable[[Path], object]] = READERS) -> None:
    """Every reader says the same, in one line, and leaves nothing behind."""
    before = sorted(corpus.parent.iterdir())
    for name, read in readers.items():
        with pytest.raises(IntegrityError, match=what) as told:
            read(corpus)
        assert "\n" not in str(told.value), name
    assert sorted(corpus.parent.iterdir()) == before


def outside(corpus: Path) -> Path:
    """A file beside the corpus that looks like a part of one."""
    path = corpus.parent / "outside.h5"
    with h5py.File(path, "w") as file:
        file["label"] = np.zeros(4, np.int64)
    return path


def virtual(file: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), np.int64)
    layout[:] = h5py.VirtualSource(str(other), "label", (4,))
    file.create_virtual_dataset("label", layout)


ATTACKS: list[tuple[str, str | None, Callable[[Any, Path], object]]] = [
    ("leads elsewhere", "label", lambda f, o: f.__setitem__("label", h5py.SoftLink("/attacks/pgd-8/success"))),
    ("leads elsewhere", "label", lambda f, o: f.__setitem__("label", h5py.ExternalLink(str(o), "/label"))),
    ("not stored in this file", "label", lambda f, o: f.create_dataset("label", (4,), np.int64, external=[(str(o), 0, 32)])),
    ("not stored in this file", "label", virtual),
    ("second name", None, lambda f, o: f.__setitem__("region", f["label"])),
    ("label is uint8 of", "label", lambda f, o: f.create_dataset("label", (4, 3 << 28), np.uint8, chunks=(1, 1 << 20), compression="gzip")),
    ("label is uint8 of", "label", lambda f, o: f.create_dataset("label", (4, 4096, 32, 32), np.uint8, chunks=(1, 1, 32, 32))),
    ("region is uint8 of", None, lambda f, o: f.create_dataset("region", (4, 64, 32), np.uint8)),
    ("fixed length", "sample_id", lambda f, o: f.create_dataset("sample_id", data=["a"] * 4, dtype=h5py.string_dtype())),
    ("neither numbers nor", "label", lambda f, o: f.create_dataset("label", data=[f["image"].ref] * 4, dtype=h5py.ref_dtype)),
    ("no id", "sample_id", lambda f, o: f.create_dataset("sample_id", data=np.array(["../victimdir/pwn", "b", "c", "d"], "S"))),
    ("no id", "sample_id", lambda f, o: f.create_dataset("sample_id", data=np.array(["x; touch y", "b", "c", "d"], "S"))),
    ("no fixed shape", "label", lambda f, o: f.create_dataset("label", (4,), np.int64, maxshape=(None,))),
    ("packed with filters", "label", lambda f, o: f.create_dataset("label", (4,), np.int64, compression="lzf")),
    ("no name of a shard", None, lambda f, o: f.create_dataset("attacks/pgd-8/\x1b[2J", data=[1])),
    ("neither a text nor a number", None, lambda f, o: f.attrs.__setitem__("unit", np.zeros(3))),
    ("attribute spatial_axes", None, lambda f, o: f.attrs.__setitem__("spatial_axes", "\x1b[2J")),
    ("no fixed shape|is float64 of", "image", lambda f, o: f.create_dataset("image", (4, 3, 32, 32), np.float64)),
]


@pytest.mark.parametrize(("what", "instead", "attack"), ATTACKS)
def test_every_reader_refuses_what_is_no_plain_shard(
    copy: Path, what: str, instead: str | None, attack: Callable[[Any, Path], object]
) -> None:
    other = outside(copy)
    with h5py.File(copy / SHARD, "r+") as file:
        if instead is not None:
            del file[instead]
        attack(file, other)
    fuzz.reseal(copy)
    refused(copy, what)


def test_ids_and_names_of_records_stay_inside(copy: Path) -> None:
    """In the receipt, where export takes them from, and in the manifest."""
    receipt = copy / "shards" / "shard-00000.json"
    said = json.loads(receipt.read_bytes())
    original, said["records"][0]["id"] = said["records"][0]["id"], "../victimdir/pwn"
    receipt.write_text(json.dumps(said))
    fuzz.reseal(copy)
    refused(copy, "is no receipt", {name: READERS[name] for name in ("verify", "export", "reproduce")})
    said["records"][0]["id"] = original
    receipt.write_text(json.dumps(said))
    fuzz.reseal(copy)
    manifest = json.loads((copy / "manifest.json").read_bytes())
    for change in (
        {"attacks": {"../x": manifest["attacks"]["pgd-8"]}},
        {"name": "x; touch y"},
        {"files": {"../x": "0" * 64}},
        {"shards": [{**manifest["shards"][0], "path": "shards/../../x.h5"}]},
    ):
        (copy / "manifest.json").write_text(json.dumps({**manifest, **change}))
        fuzz.reseal(copy)
        by_manifest = {name: read for name, read in READERS.items() if name != "CorpusReader"}
        refused(copy, "no manifest|cannot be read as a manifest", by_manifest)


@pytest.mark.parametrize("name", [SHARD, "shards/shard-00001.json", "shards", "manifest.json", "quarantine.jsonl"])
def test_links_are_followed_where_they_are_allowed(copy: Path, name: str) -> None:
    elsewhere = copy.parent / "elsewhere"
    shutil.move(copy / name, elsewhere)
    (copy / name).symlink_to(elsewhere)
    readers = dict(READERS) if name in (SHARD, "shards") else {key: read for key, read in READERS.items() if key != "CorpusReader"}
    refused(copy, "is a link.*--allow-links", readers)
    said = Said()
    assert find_damage(copy, said, links=True) == []
    assert [line for line in said if line] == [f"{name} leads to {elsewhere}"]
    assert CorpusDataset(copy, links=True)[0]["sample_id"] == datalist(copy, links=True)[0]["sample_id"]
    write_report(copy, copy.parent / "report.html", links=True, tell=said.append)
    assert said[-1] == f"{name} leads to {elsewhere}"


def test_pipes_are_no_files(copy: Path) -> None:
    """Opening one waits for ever."""
    (copy / "shards" / "shard-00001.json").unlink()
    os.mkfifo(copy / "shards" / "shard-00001.json")
    refused(copy, "is no regular file", {key: read for key, read in READERS.items() if key != "CorpusReader"})


def spin(path: Path) -> None:
    """Zeros where the heap of texts begins: its first object has no length, and HDF5 looks for the next one for ever."""
    data = bytearray(path.read_bytes())
    place = data.index(b"GCOL") + 16
    data[place : place + 512] = bytes(512)
    path.write_bytes(data)


def test_a_file_that_hdf5_never_gets_done_with_is_given_up(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spin(copy / SHARD)
    fuzz.reseal(copy)
    monkeypatch.setattr(examine, "SECONDS", 1.0)
    asked: list[object] = []
    service = examine._service
    ask = service.ask
    monkeypatch.setattr(service, "ask", lambda files: asked.extend(path for path, _ in files) or ask(files))
    refused(copy, "HDF5 was not done with its structure after 1 s")
    # Once by what the manifest says of it; a reader that has no manifest knows of it already.
    assert [path for path in asked if path == copy / SHARD] == [copy / SHARD] * 2


def test_a_shard_that_comes_later_is_looked_at_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = classification(tmp_path / "corpus")
    (shard := root / SHARD).rename(tmp_path / "kept.h5")
    dataset = CorpusDataset(root)
    with pytest.raises(FileNotFoundError):
        dataset[0]
    monkeypatch.setattr(examine, "SECONDS", 1.0)
    shutil.copy(tmp_path / "kept.h5", shard)
    spin(shard)
    with pytest.raises(MedadvError, match="not done with its structure"):
        dataset[0]


def test_a_shard_is_looked_at_once_and_not_at_all_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = classification(tmp_path / "corpus")
    asked: list[object] = []
    monkeypatch.setattr(examine._service, "ask", lambda files: asked.extend(files) or [None] * len(files))
    CorpusDataset(root, check=False)[0]
    assert asked == []
    CorpusDataset(root)[0]
    CorpusDataset(root)[0]
    assert len(asked) == 1
    os.utime(root / SHARD, (1, 1))
    CorpusDataset(root)[0]
    assert len(asked) == 2
    shutil.copy(root / SHARD, tmp_path / "changed.h5")
    with h5py.File(tmp_path / "changed.h5", "r+") as file:
        file["region"] = h5py.SoftLink("/label")
    (tmp_path / "changed.h5").replace(root / SHARD)
    with pytest.raises(IntegrityError, match="leads elsewhere"):
        CorpusDataset(root, check=False)[0]


def test_a_file_that_goes_while_it_is_looked_at_has_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes make room in a cache. The same file may come back there, and even get the same inode."""
    path = classification(tmp_path / "corpus") / SHARD
    ask, aside = examine._service.ask, tmp_path / "aside"

    def going(files: Any) -> Any:
        path.rename(aside)
        return ask(files)

    with monkeypatch.context() as patch:
        patch.setattr(examine._service, "ask", going)
        assert examine.examined([(path, None)]) == [None]
    aside.rename(path)
    assert examine.examined([(path, None)]) == [None]


def test_a_service_that_was_killed_is_replaced_and_leaves_nothing_open(tmp_path: Path) -> None:
    path = classification(tmp_path / "corpus") / SHARD
    service = examine._Service()
    assert service.ask([(path, None)]) == [None]
    first = service.process
    assert first is not None
    first.kill()
    first.wait()
    assert service.ask([(path, None)]) == [None]
    assert service.process is not first
    assert [stream.closed for stream in (first.stdin, first.stdout) if stream is not None] == [True, True]
    service.close()


def test_crashes_and_hunger_are_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = classification(tmp_path / "corpus") / SHARD
    assert examine._answers([(path, None)], 20, 2 << 30) == [None]
    monkeypatch.setattr(examine, "look", lambda *_: np.ones(1 << 28))
    assert examine._answers([(path, None)], 20, 1 << 30) == ["looking at its structure takes too much memory"]
    monkeypatch.setattr(examine, "look", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert examine._answers([(path, None)] * 6, 20, 2 << 30) == ["HDF5 crashes on it"] * 6


def test_what_is_shown_is_printable() -> None:
    assert str(Finding("a\x1b[31mb", "x\ny\u202e")) == "a\\x1b[31mb: x\\ny\\u202e"
    assert printable("Dice ≥ 0.1, größer") == "Dice ≥ 0.1, größer"
    assert [cell(text) for text in ("=1+1", "@x", "-x", "-1.5", "a=1", "")] == ["'=1+1", "'@x", "'-x", "-1.5", "a=1", ""]


def test_the_manifest_that_is_read_is_the_typed_one(copy: Path) -> None:
    assert isinstance(CorpusDataset(copy).manifest, Manifest)
