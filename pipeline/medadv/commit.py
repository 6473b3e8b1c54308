"""Exactly-once commit of a shard: whoever makes it, however often, one file and one receipt get their names, and they belong together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medadv.errors import IntegrityError
from medadv.hashing import canonical_json
from medadv.lock import exclusive
from medadv.store.writer import publish, write_file
from medadv.workspace import Workspace


def committed(workspace: Workspace, name: str, plan: str) -> dict[str, Any] | None:
    """The receipt of a shard that is committed under a plan, None when it has none.

    Raises:
        IntegrityError: the receipt is damaged, belongs to another plan, or its file is missing or of another size.
    """
    path = workspace.receipt(name)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        receipt = json.loads(content)
        own = receipt["plan"] == plan and receipt["shard"] == name
        size = receipt["bytes"]
    except (ValueError, KeyError, TypeError):
        own, receipt, size = False, {}, 0
    advice = f"see `medadv verify`; to have the shard made again, remove shards/{name}.json"
    if not own:
        raise IntegrityError(f"shards/{name}.json is damaged, or the receipt of another plan; {advice}")
    file = workspace.shard(name)
    if size and (not file.exists() or file.stat().st_size != size):
        raise IntegrityError(f"shards/{name}.h5 is missing, or not the file that was committed; {advice}")
    return dict(receipt)


def commit(
    workspace: Workspace, name: str, index: int, temporary: Path | None, receipt: dict[str, Any], proceed: Callable[[], None]
) -> dict[str, Any]:
    """Publish a verified shard and its receipt; returns the receipt that stands, which is an earlier one if somebody was faster.

    temporary: the finished file, None for a shard without samples.  proceed: raises when this maker is no longer wanted.
    """
    with exclusive(workspace.commits, index):
        proceed()
        earlier = committed(workspace, name, receipt["plan"])
        if earlier is not None:
            return earlier
        # A file that lies here without a receipt is what a maker left that died before its commit: it never counted.
        if temporary is not None:
            publish(temporary, workspace.shard(name))
        write_file(workspace.receipt(name), canonical_json(receipt) + b"\n")
        return receipt
