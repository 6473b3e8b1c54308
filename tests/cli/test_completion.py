"""What a tab offers inside a command: attacks and samples of the corpus that it names, and nothing at all where something is wrong."""

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.test_command_line import medadv

from medadv.cli import completion
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.corpus.receipt import read_receipt


def offered(line: str) -> tuple[list[str], list[str]]:
    """What a shell would be told, and heavy packages that were imported for it."""
    answer = medadv("x", _MEDADV_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(line.count(" ")))
    said, loaded = answer.stderr.split("LOADED")
    assert said == ""
    # Who opens a corpus has h5py at hand.
    return answer.stdout.split(), [name for name in loaded.split() if name != "h5py"]


class Context:
    """As typer gives it: what of the command was understood so far."""

    def __init__(self, corpus: object) -> None:
        self.params = {"corpus": corpus}
        self.args: list[str] = []


def names(corpus: object, incomplete: str = "") -> tuple[list[str], list[str]]:
    context = Context(corpus)
    return completion.attacks(context, incomplete), completion.samples(context, incomplete)  # type: ignore[arg-type]


def ids(corpus: Path) -> list[str]:
    manifest = read_manifest(Workspace(corpus))
    return [record.id for entry in manifest.shards for record in read_receipt(Workspace(corpus), Path(entry.path).stem).records]


def test_attacks_and_samples_of_the_corpus_are_offered_through_the_shell(tiny_corpus: Path) -> None:
    attacks, known = list(read_manifest(Workspace(tiny_corpus)).attacks), ids(tiny_corpus)
    assert offered(f"medadv export {tiny_corpus} --attack ") == (attacks, [])
    assert offered(f"medadv export {tiny_corpus} --sample {known[3][:6]}") == ([known[3]], [])
    assert offered(f"medadv reproduce {tiny_corpus} --sample ") == (known, [])
    assert offered(f"medadv reproduce {tiny_corpus}-not --sample ") == ([], [])


def test_what_is_half_typed_is_the_beginning_of_what_is_offered(tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ids(tiny_corpus)
    assert names(tiny_corpus, "zz") == ([], [])
    assert names(str(tiny_corpus), known[0]) == ([], [known[0]])
    monkeypatch.setattr(completion, "MOST", 3)
    assert names(tiny_corpus)[1] == known[:3]
    # Who waits for a large corpus is not kept waiting: no receipt is read after the time is up.
    monkeypatch.setattr(completion, "PATIENCE_S", -1)
    assert names(tiny_corpus)[1] == []


@pytest.mark.parametrize("damage", ["gone", "no manifest", "no JSON", "large", "link", "receipts", "nothing typed", "no path"])
def test_nothing_is_offered_and_nothing_said_where_something_is_wrong(
    damage: str, tiny_corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(tiny_corpus, corpus)
    manifest = corpus / "manifest.json"
    attacks: list[str] = []
    match damage:
        case "gone":
            shutil.rmtree(corpus)
        case "no manifest":
            manifest.unlink()
        case "no JSON":
            manifest.write_text("{")
        case "large":
            monkeypatch.setattr(completion, "MOST_BYTES", manifest.stat().st_size - 1)
        case "link":
            manifest.rename(tmp_path / "elsewhere.json")
            manifest.symlink_to(tmp_path / "elsewhere.json")
        case "receipts":
            # Ids of a receipt that is not the one of the manifest are nobody's.
            attacks = list(json.loads(manifest.read_text())["attacks"])
            for receipt in (corpus / "shards").glob("*.json"):
                receipt.write_text(receipt.read_text().replace('"id"', '"id" '))
    given = {"nothing typed": None, "no path": 7}.get(damage, corpus)
    assert names(given) == (attacks, [])
    assert capfd.readouterr() == ("", "")
