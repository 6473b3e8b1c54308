"""Who vouches for a corpus? `manifest.json.sig`: Ed25519 over the hash of the manifest, which covers every other file by its hash."""

from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from pydantic import Field

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.files import write_file
from medadv.common.hashing import canonical_json, hash_bytes
from medadv.common.record import Closed, RecordError, Sha256, parse, plain
from medadv.corpus.folder import Workspace

MADE_BY = "openssl genpkey -algorithm ed25519 -out private.pem; openssl pkey -in private.pem -pubout -out public.pem"


class Statement(Closed):
    """What is signed, as canonical JSON."""

    format: Literal["medadv-signature"]
    format_version: Literal[1]
    manifest_sha256: Sha256
    predecessors: list[Sha256] = Field(description="SHA-256 of the signature files that stood here before, oldest first")


class Signature(Closed):
    """`manifest.json.sig`."""

    statement: Statement
    algorithm: Literal["ed25519"]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def sign(workspace: Workspace, key: Path) -> bool:
    """Sign the manifest as it stands; False where it carries this key's signature already.

    Raises:
        SpecError: no private key for Ed25519, or the signature that is there is of another key, whose line this one does not go on.
        IntegrityError: no manifest, or a signature that is none.
    """
    private = _private(key)
    digest = hash_bytes(_manifest(workspace))
    predecessors: list[str] = []
    before = read_bytes(workspace.signature)
    if before is not None:
        former = parse_signature(before, workspace.signature)
        if not genuine(former, private.public_key()):
            raise SpecError(f"{workspace.signature} was made with another key than {key}; remove it to begin a new line of signatures")
        if former.statement.manifest_sha256 == digest:
            return False
        predecessors = [*former.statement.predecessors, hash_bytes(before)]
    statement = Statement(format="medadv-signature", format_version=1, manifest_sha256=digest, predecessors=predecessors)
    signed = Signature(statement=statement, algorithm="ed25519", signature=private.sign(_message(statement)).hex())
    write_file(workspace.signature, canonical_json(plain(signed)) + b"\n")
    return True


def problem_with(workspace: Workspace, key: Path, after: Path | None) -> str | None:
    """Why the signature does not vouch for the manifest as it stands, None when it does.

    Args:
        workspace: the corpus.
        key: public key, PEM.
        after: a signature file of this corpus that was kept from before: the one that is there now must be the same, or descend from it.

    Raises SpecError where key or `after` cannot be used, IntegrityError where there is no manifest.
    """
    public = _public(key)
    remembered = None
    if after is not None:
        remembered = read_bytes(after)
        if remembered is None:
            raise SpecError(f"{after}: no such file; --after takes a copy of manifest.json.sig that was kept from before")
        parse_signature(remembered, after, SpecError)
    data = read_bytes(workspace.signature)
    if data is None:
        return "missing: the corpus is not signed"
    try:
        found = parse_signature(data, workspace.signature)
    except IntegrityError:
        return "is no signature"
    if not genuine(found, public):
        return "was not made with this key"
    if found.statement.manifest_sha256 != hash_bytes(_manifest(workspace)):
        return "is of another manifest than the one that is there"
    if remembered is not None and hash_bytes(remembered) not in (hash_bytes(data), *found.statement.predecessors):
        return f"is older than {after}, or no descendant of it"
    return None


def genuine(signature: Signature, key: Ed25519PublicKey) -> bool:
    """Whether a key made a signature."""
    try:
        key.verify(bytes.fromhex(signature.signature), _message(signature.statement))
    except InvalidSignature:
        return False
    return True


def parse_signature(data: bytes, path: Path, error: type[IntegrityError] | type[SpecError] = IntegrityError) -> Signature:
    """The record that a signature file is."""
    try:
        return parse(Signature, data)
    except RecordError:
        raise error(f"{path}: is no signature of medadv") from None


def read_bytes(path: Path) -> bytes | None:
    """A file's content, None where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None


def _message(statement: Statement) -> bytes:
    return canonical_json(plain(statement))


def _manifest(workspace: Workspace) -> bytes:
    data = read_bytes(workspace.manifest)
    if data is None:
        raise IntegrityError(f"{workspace.root}: no manifest.json; not a corpus, or its first run is not finished")
    return data


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SpecError(f"{path}: no private Ed25519 key in PEM without a password; made by: {MADE_BY}")
    return key


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SpecError(f"{path}: no public Ed25519 key in PEM; made by: {MADE_BY}")
    return key
