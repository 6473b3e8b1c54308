"""What is missing, too many, edited or forged in a corpus is found and named as closely as it can be; bytes: test_damaged_bytes.py."""

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import pytest
from tests.corpus.file_server import serving
from tests.evidence.damage import chunk_owners, published

from medadv.cli.app import main
from medadv.common.errors import SpecError
from medadv.common.hashing import hash_file
from medadv.evidence.verify import find_damage, verify
from medadv.store import codecs
from medadv.training.dataset import CorpusDataset

PERTURBATION = "attacks/pgd-8/perturbation"


@pytest.fixture
def copy(tiny_corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))


def test_a_missing_file_and_a_file_too_many_are_named(copy: Path) -> None:
    for path in published(copy):
        content = path.read_bytes()
        name = path.relative_to(copy).as_posix()
        if name == "manifest.json":
            continue  # without it the folder is no corpus; see below
        path.unlink()
        assert any(finding.file == name for finding in find_damage(copy)), name
        path.write_bytes(content)
    (copy / "shards" / "shard-00009.h5").write_bytes(b"")
    (copy / "notes.txt").write_text("hello")
    assert {finding.file for finding in find_damage(copy)} == {"shards/shard-00009.h5", "notes.txt"}


def test_a_value_changed_through_hdf5_is_named_with_sample_and_array(copy: Path) -> None:
    """An edit may move chunks, so that byte ranges say little: another process decodes the file."""
    path = copy / "shards" / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        sample = file["sample_id"][2].decode()
        file["attacks/pgd-8/perturbation"][2, 0, :4] = 100
    findings = find_damage(copy)
    assert any((f.file, f.sample, f.array) == ("shards/shard-00000.h5", sample, "attacks/pgd-8/perturbation") for f in findings)


def write_whatever(corpus: Path, manifest: object) -> None:
    """A manifest that no model has seen, with a fitting hash."""
    data = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    (corpus / "manifest.json").write_bytes(data)
    (corpus / "manifest.json.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")


def forge(corpus: Path, change: object) -> None:
    """Rewrite every hash that a change of the first shard breaks, as a forger would."""
    from medadv.common.hashing import canonical_json, hash_bytes, hash_file

    shard, receipt_path = corpus / "shards" / "shard-00000.h5", corpus / "shards" / "shard-00000.json"
    with h5py.File(shard, "r+") as file:
        change(file)  # type: ignore[operator]
    receipt = json.loads(receipt_path.read_bytes())
    receipt |= {"bytes": shard.stat().st_size, "sha256": hash_file(shard), "extents": {}}
    receipt_path.write_bytes(canonical_json(receipt) + b"\n")
    manifest = json.loads((corpus / "manifest.json").read_bytes())
    hashes = {"sha256": receipt["sha256"], "receipt_sha256": hash_bytes(receipt_path.read_bytes())}
    manifest["shards"][0] |= {"bytes": receipt["bytes"], **hashes}
    write_whatever(corpus, manifest)


@pytest.mark.parametrize(
    ("array", "change", "what"),
    [
        (PERTURBATION, lambda f: f[PERTURBATION].__setitem__((1, 0, 0, 0), 9), "larger than epsilon"),
        (PERTURBATION, lambda f: f[PERTURBATION].__setitem__((1, 0, 0, 0), 7), "differs from its receipt"),
        ("image", lambda f: f["image"].__setitem__((1, slice(None)), 255), "differs from its receipt"),
        ("attacks/smia-8/success", lambda f: f["attacks/smia-8/success"].__setitem__(1, 7), "receipt says"),
        (None, lambda f: f.attrs.__setitem__("unit", "hu"), "attribute unit"),
        (None, lambda f: f["attacks/pgd-8"].attrs.__setitem__("epsilon", 16.0), "settings of pgd-8"),
        ("label", lambda f: f["label"].__setitem__(0, 1 - f["label"][0]), "differs from its receipt"),
        ("extra", lambda f: f.create_dataset("extra", data=[1]), "not in the receipt"),
    ],
)
def test_a_forged_shard_with_fitting_hashes_is_found_by_its_content(copy: Path, array: str | None, change: object, what: str) -> None:
    forge(copy, change)
    findings = find_damage(copy)
    assert any(f.file == "shards/shard-00000.h5" and f.array == array and what in f.what for f in findings), findings


def test_an_image_pushed_off_the_lattice_is_named(copy: Path) -> None:
    def brighten(file: h5py.File) -> None:
        file["image"][3] = 255
        file["attacks/pgd-8/perturbation"][3] = 1

    forge(copy, brighten)
    assert any("leaves the range" in line for line in verify(copy))


def test_forged_manifests_never_end_in_a_traceback(copy: Path) -> None:
    """Values of every kind in every place of the manifest, under a fitting hash."""
    original = json.loads((copy / "manifest.json").read_bytes())
    for key in original:
        for value in (None, -1, "x", [], {}, [None], {"a": 1}, [{"path": "../../etc/passwd"}]):
            write_whatever(copy, {**original, key: value})
            for finding in find_damage(copy):
                assert isinstance(str(finding), str)
    for value in ("../outside.h5", "/etc/passwd", "shards/../../x.h5"):
        write_whatever(copy, {**original, "shards": [{**original["shards"][0], "path": value}]})
        assert "is no manifest" in verify(copy)[0]


def test_several_processes_find_what_one_finds(copy: Path) -> None:
    for name in ("shard-00000.h5", "shard-00002.h5"):
        path = copy / "shards" / name
        path.write_bytes(path.read_bytes()[:-100])
    assert verify(copy, workers=2) == verify(copy, workers=1) != []


def test_the_command_ends_with_five_and_names_the_sample(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy / "shards" / "shard-00001.h5"
    low, high, sample, array = next(owner for owner in chunk_owners(path) if owner[2] is not None)
    content = bytearray(path.read_bytes())
    content[(low + high) // 2] ^= 16
    path.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["medadv", "verify", str(copy), "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 5
    answer = json.loads(capsys.readouterr().out)
    assert {"file": "shards/shard-00001.h5", "sample": sample, "array": array} in [
        {key: problem[key] for key in ("file", "sample", "array")} for problem in answer["problems"]
    ]


def test_a_corpus_whose_codec_is_missing_here_is_not_called_damaged(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shards are gzip: the codec that the manifest names is asked for before any of them is opened."""
    sample = json.loads((copy / "shards" / "shard-00000.json").read_text())["records"][0]["id"]
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["execution"]["codec"] = "blosc2"
    path.write_text(json.dumps(manifest))
    (copy / "manifest.json.sha256").write_text(f"{hash_file(path)}  manifest.json\n")
    monkeypatch.delattr(codecs, "hdf5plugin", raising=False)
    for command in (
        ["verify", str(copy)],
        ["verify", str(copy), "--deep"],
        ["reproduce", str(copy), "--sample", sample],
        ["export", str(copy), "--format", "png", "--out", str(tmp_path / "out")],
    ):
        monkeypatch.setattr("sys.argv", ["medadv", *command])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == SpecError.exit_code, command
        assert "hdf5plugin: pip install 'medadv[codecs]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(SpecError, match="needs hdf5plugin"):
        CorpusDataset(copy)
    # A manifest that was changed may name any codec: that stays damage.
    (copy / "manifest.json.sha256").write_text(f"{'0' * 64}  manifest.json\n")
    assert "manifest.json" in [finding.file for finding in find_damage(copy)]


def test_a_corpus_at_an_address_is_held_against_its_records(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage is named as in a folder, by one process and by two, and nothing of it stays here; what is no damage is exit code 4."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'medadv[remote]'")
    monkeypatch.setenv("MEDADV_CACHE", str(tmp_path / "cache"))
    shard = "shards/shard-00001.h5"

    def told(server_address: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["medadv", "verify", server_address.replace("://", "://me:PASSWORD@") + "?sig=SECRET", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert not any(secret in out + err for secret in ("PASSWORD", "SECRET"))
        return int(ended.value.code or 0), out, err

    with serving(copy) as server:
        assert told(server.address)[:2] == (0, f"{server.address}: 0 problems\n")
        server.flip[shard] = 9_000
        server.flip["quarantine.jsonl" if (copy / "quarantine.jsonl").stat().st_size else "croissant.json"] = 0
        code, out, _ = told(server.address)
        with (copy / shard).open("r+b") as stream:
            stream.seek(9_000)
            changed = stream.read(1)[0] ^ 1
            stream.seek(9_000)
            stream.write(bytes([changed]))
        expected = {line for line in verify(copy) if line.startswith(shard)}
        assert code == 5
        assert {line for line in out.splitlines() if line.startswith(shard)} == expected != set()
        assert "croissant.json: bytes differ from the manifest" in out or "quarantine.jsonl: bytes differ" in out
        server.flip.clear()
        server.answers[shard] = 404
        assert told(server.address, "--workers", "2")[:2] == (5, f"{shard}: missing\n{server.address}: 1 problems\n")
        server.answers[shard] = 403
        assert told(server.address)[::2] == (4, f"medadv: {server.address}/{shard}: not fetched (the server answers 403)\n")
        assert told(server.address, "--deep")[0] == 2
    assert list((tmp_path / "cache").iterdir()) == []
