"""Where a corpus lies, however its user writes it."""

import json
from pathlib import Path
from typing import Any

from medadv.errors import IntegrityError

MANIFEST = "manifest.json"
SHARD_SUFFIX = ".h5#"


def corpus_folder(corpus: str | Path) -> Path:
    """The folder that holds manifest.json, absolute; `~` and a path to the manifest itself are understood."""
    path = Path(corpus).expanduser().absolute()
    return path.parent if path.name == MANIFEST else path


def read_corpus_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a corpus folder. Raises IntegrityError where there is none."""
    try:
        manifest: dict[str, Any] = json.loads((root / MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise IntegrityError(f"{root}: no readable {MANIFEST}; not a corpus, or its run is not finished") from None
    return manifest


def is_address(name: str) -> bool:
    """Whether a name has the form of CorpusReader's: SHARD.h5#SAMPLE[/PART]."""
    return SHARD_SUFFIX in name


def split_address(name: str) -> tuple[Path, str, str]:
    """Shard, sample and part ("" for the clean image) of a name. Folders may hold a `#` of their own."""
    shard, _, address = name.rpartition(SHARD_SUFFIX)
    sample, _, part = address.partition("/")
    return Path(f"{shard}.h5").expanduser(), sample, part
