"""The manifest and the small files: hashes, shape, what is missing and what is too many."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from medadv.common.errors import IntegrityError
from medadv.common.hashing import hash_bytes, hash_file
from medadv.common.record import NoJsonError, RecordError, parse
from medadv.corpus.croissant import croissant
from medadv.corpus.folder import UNCOVERED, Workspace
from medadv.corpus.manifest import Manifest
from medadv.corpus.quarantine import QuarantineRecord
from medadv.corpus.roots import chained_root
from medadv.evidence.finding import Finding
from medadv_transforms.errors import REASONS

HASH_FILE = "manifest.json.sha256"
ADDED = re.compile(r"shards/(shard-[0-9]{5,}\.(h5|json)|\.tmp-[^/]+)|\.tmp-[^/]+")
"""What a run at work puts beside the files that the manifest names."""


def load_manifest(root: Path) -> tuple[Manifest | None, list[Finding]]:
    """The manifest, None when nothing can be checked against it, and what is wrong with it or its hash file.

    Raises IntegrityError where there is none at all.
    """
    path = root / "manifest.json"
    try:
        data = path.read_bytes()
    except OSError:
        raise IntegrityError(f"{root}: no manifest.json; not a corpus, or its first run is not finished") from None
    findings = list(_own_hash(root, data))
    try:
        return parse(Manifest, data), findings
    except NoJsonError as error:
        return None, [*findings, Finding("manifest.json", f"{error}; nothing else can be checked")]
    except RecordError as error:
        return None, [*findings, Finding("manifest.json", f"is no manifest: {error}; nothing else can be checked")]


def _own_hash(root: Path, data: bytes) -> Iterator[Finding]:
    """The hash file byte for byte: there is one way to write it."""
    try:
        stated = (root / HASH_FILE).read_bytes()
    except OSError:
        yield Finding(HASH_FILE, "missing")
        return
    if stated != f"{hash_bytes(data)}  manifest.json\n".encode():
        yield Finding("manifest.json", f"does not fit {HASH_FILE}: one of the two was changed")


def check_files(root: Path, manifest: Manifest, growing: bool = False) -> Iterator[Finding]:
    """Small published files by hash, and published files that the manifest does not name. growing: a run adds shards, which are no such."""
    named = {"manifest.json", HASH_FILE, *UNCOVERED, *manifest.files}
    for entry in manifest.shards:
        named |= {entry.path, entry.receipt_path}
    for name, expected in manifest.files.items():
        path = root / name
        if not path.is_file():
            yield Finding(name, "missing")
        elif hash_file(path) != expected:
            yield Finding(name, "bytes differ from the manifest")
    # Folders of the corpus that are links were told of, or refused, before.
    named |= {parent.as_posix() for name in named for parent in Path(name).parents}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] != ".medadv" and (path.is_file() or path.is_symlink()) and relative.as_posix() not in named:
            if growing and ADDED.fullmatch(relative.as_posix()):
                continue
            yield Finding(relative.as_posix(), "not in the manifest")


def check_croissant(root: Path, manifest: Manifest) -> Iterator[Finding]:
    """The metadata that catalogues read, where its bytes are those that the manifest covers: whether they follow from the manifest."""
    path = Workspace(root).croissant
    try:
        data = path.read_bytes()
        if hash_bytes(data) == manifest.files.get(path.name) and data != croissant(manifest):
            yield Finding(path.name, "says what does not follow from the manifest")
    except (OSError, ValueError) as error:
        if path.name in manifest.files and path.is_file():
            yield Finding(path.name, f"cannot be held against the manifest ({type(error).__name__})")


def check_quarantine(root: Path, manifest: Manifest) -> Iterator[Finding]:
    """Each line a record with a known code, and as many as the manifest says."""
    name = Workspace(root).quarantine.name
    path = root / name
    if name not in manifest.files:
        yield Finding("manifest.json", f"covers no {name}")
    if not path.is_file():
        return
    count = 0
    with path.open("rb") as stream:
        for count, line in enumerate(stream, start=1):
            try:
                record = parse(QuarantineRecord, line)
            except NoJsonError as error:
                yield Finding(name, f"line {count} {error}")
            except RecordError as error:
                yield Finding(name, f"line {count} is no quarantine record: {error}")
            else:
                if record.code not in REASONS:
                    yield Finding(name, f"line {count} has an unknown reason code {record.code!r}")
    if count != manifest.quarantined:
        yield Finding(name, f"holds {count} records, the manifest says {manifest.quarantined}")


def check_totals(root: Path, manifest: Manifest, samples: int) -> Iterator[Finding]:
    """Sums and the content root, which the manifest states and the shards imply."""
    if samples != manifest.samples:
        yield Finding("manifest.json", f"says {manifest.samples} samples, the receipts hold {samples}")
    missing, root_value = chained_root(root, manifest)
    if missing != manifest.run.shards_missing or (missing > 0) != (manifest.run.status == "partial"):
        yield Finding("manifest.json", f"status {manifest.run.status!r}, but {missing} planned shards have no receipt")
    if root_value != manifest.content_root:
        yield Finding("manifest.json", "content root does not follow from the shards'")


def first_crossing(sequences: Iterable[str]) -> str | None:
    """The first value that stands twice in a row in a sorted stream."""
    previous: str | None = None
    for value in sequences:
        if value == previous:
            return value
        previous = value
    return None
