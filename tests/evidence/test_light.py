"""Who checks a corpus needs no network library: `verify` without --deep never loads one, so that it starts at once and in little memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.export.export_cases import nifti_corpus

CODE = """
import json, sys
from pathlib import Path
from medadv.cli.app import main
sys.argv = ["medadv", "verify", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code or 0
heavy = [name for name in ("torch", "torchvision", "monai", "matplotlib", "distributed") if name in sys.modules]
most = next(int(line.split()[1]) >> 10 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([code, heavy, most]))
"""


def verified(*words: object) -> tuple[int, list[str], int, list[str]]:
    """Exit code, what was loaded that is heavy, MiB at most, and what was printed."""
    done = subprocess.run([sys.executable, "-c", CODE, *map(str, words)], capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    code, heavy, most = json.loads(last)
    return code, heavy, most, lines


def test_verify_loads_no_network_library(tiny_corpus: Path, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "public.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    signed = shutil.copytree(tiny_corpus, tmp_path / "signed")
    subprocess.run([sys.executable, "-m", "medadv", "sign", str(signed), "--key", str(tmp_path / "key.pem")], check=True)
    code, heavy, most, lines = verified(tiny_corpus, signed, "--workers", 1)
    assert (code, heavy) == (0, []), lines
    assert most < 250, most
    code, heavy, _, lines = verified(signed, "--key", tmp_path / "public.pem", "--workers", 2, "--json")
    assert (code, heavy) == (0, []), lines
    with (signed / "shards" / "shard-00001.h5").open("r+b") as file:
        file.truncate(3000)
    code, heavy, _, lines = verified(signed)
    assert (code, heavy) == (5, []), lines


def test_masks_are_checked_without_one_too(tmp_path: Path) -> None:
    corpus = nifti_corpus(tmp_path, 2)
    code, heavy, _, lines = verified(corpus)
    assert (code, heavy, lines) == (0, [], [f"{corpus}: 0 problems"])
