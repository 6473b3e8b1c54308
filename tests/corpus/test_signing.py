"""Signatures: a forger without the key is found, and so is who brings back an old state, by one who remembers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from medadv.common.errors import SpecError
from medadv.common.hashing import hash_bytes
from medadv.common.record import parse
from medadv.corpus.croissant import croissant
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest
from medadv.corpus.signing import problem_with, sign
from medadv.evidence.verify import find_damage


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Private and public key files, as openssl writes them."""
    private = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.pem").write_bytes(private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    public = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    return folder / f"{name}.pem", folder / f"{name}.pub"


@pytest.fixture
def copy(tiny_corpus: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(tiny_corpus, tmp_path / "corpus")))


def rename(workspace: Workspace, name: str) -> None:
    """Change the manifest, and make anew what follows from it, as who forges does."""
    manifest = {**json.loads(workspace.manifest.read_bytes()), "name": name}
    described = croissant(parse(Manifest, json.dumps(manifest)))
    (workspace.root / "croissant.json").write_bytes(described)
    manifest["files"]["croissant.json"] = hash_bytes(described)
    data = json.dumps(manifest).encode()
    workspace.manifest.write_bytes(data)
    workspace.manifest_hash.write_text(f"{hash_bytes(data)}  manifest.json\n")


def test_a_forger_without_the_key_is_found(copy: Workspace, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "maker")
    other, _ = keys(tmp_path, "forger")
    assert problem_with(copy, public, None) == "missing: the corpus is not signed"
    assert sign(copy, private)
    assert not sign(copy, private)
    assert problem_with(copy, public, None) is None
    assert find_damage(copy.root) == [], "the signature is no intruder"
    rename(copy, "forged")
    assert find_damage(copy.root) == [], "hashes made anew fit"
    assert problem_with(copy, public, None) == "is of another manifest than the one that is there"
    with pytest.raises(SpecError, match="another key"):
        sign(copy, other)
    copy.signature.unlink()
    assert sign(copy, other)
    assert problem_with(copy, public, None) == "was not made with this key"


def test_every_byte_of_a_signature_counts(copy: Workspace, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "maker")
    sign(copy, private)
    rename(copy, "second")
    sign(copy, private)
    data = copy.signature.read_bytes()
    for place in range(len(data) - 1):
        copy.signature.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert problem_with(copy, public, None) is not None, place


def test_an_old_state_is_found_by_who_remembers(copy: Workspace, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "maker")
    states, signatures = [], []
    for name in ("first", "second", "third"):
        rename(copy, name)
        sign(copy, private)
        states.append({path: path.read_bytes() for path in (copy.manifest, copy.manifest_hash, copy.signature)})
        signatures.append(tmp_path / f"{name}.sig")
        signatures[-1].write_bytes(copy.signature.read_bytes())
    for signature in signatures:
        assert problem_with(copy, public, signature) is None
    for path, data in states[0].items():
        path.write_bytes(data)
    assert problem_with(copy, public, None) is None, "an old state passes where nobody remembers"
    assert problem_with(copy, public, signatures[0]) is None
    assert "is older than" in str(problem_with(copy, public, signatures[1]))
    copy.signature.unlink()
    rename(copy, "another-line")
    sign(copy, private)
    assert "no descendant" in str(problem_with(copy, public, signatures[2]))


def test_the_verbs(copy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from medadv.cli.app import main

    private, public = keys(tmp_path, "maker")

    def answer(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medadv", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out + said.err

    corpus = str(copy.root)
    assert answer("verify", corpus, "--key", str(public))[0] == 5
    assert answer("sign", corpus, "--key", str(public))[0] == 2, "a public key signs nothing"
    code, said = answer("sign", corpus, "--key", str(private))
    assert (code, said.strip().endswith("signed")) == (0, True)
    shutil.copy(copy.signature, tmp_path / "kept.sig")
    assert answer("verify", corpus, "--key", str(public), "--after", str(tmp_path / "kept.sig"))[0] == 0
    assert answer("verify", corpus, "--after", str(tmp_path / "kept.sig"))[0] == 2
    assert answer("verify", corpus, "--key", str(private))[0] == 2
    copy.quarantine.write_bytes(b"{}\n")
    code, said = answer("sign", corpus, "--key", str(private))
    assert code == 5, "what does not verify is not signed"
    assert "quarantine.jsonl" in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_keys_of_openssl(copy: Workspace, tmp_path: Path) -> None:
    private, public = str(tmp_path / "private.pem"), str(tmp_path / "public.pem")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    assert sign(copy, Path(private))
    assert problem_with(copy, Path(public), None) is None
