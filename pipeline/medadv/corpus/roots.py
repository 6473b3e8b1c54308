"""Which content root follows from what a manifest lists?"""

from pathlib import Path

from medadv.common.hashing import hash_value
from medadv.common.record import RecordError, parse
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.manifest import Manifest
from medadv.corpus.receipt import Receipt


def chained_root(root: Path, manifest: Manifest) -> tuple[int, str]:
    """Planned shards without a receipt, and the content root as it follows from the generations' shards in order."""
    listed = {entry.path: entry.content_root for entry in manifest.shards}
    gone = {number for generation in manifest.generations for number in generation.replaces}
    value, index, missing = "", 0, 0
    for generation in manifest.generations:
        roots: list[str] = []
        for number in range(index, index + generation.shards):
            if number in gone:
                continue
            name = shard_name(number)
            known = listed.get(f"shards/{name}.h5") or _empty_root(root, name)
            if known is None:
                missing += 1
            else:
                roots.append(known)
        index += generation.shards
        value = hash_value({"before": value, "plan": generation.plan, "shards": roots})
    return missing, value


def _empty_root(root: Path, name: str) -> str | None:
    """Content root of a shard all of whose samples were quarantined: a receipt without a file."""
    try:
        receipt = parse(Receipt, Workspace(root).receipt(name).read_bytes())
    except (OSError, RecordError):
        return None
    return receipt.content_root if receipt.samples == 0 else None
