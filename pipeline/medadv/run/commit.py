"""Exactly-once commit of a shard: whoever makes it, however often, one file and one receipt get their names, and they belong together."""

from collections.abc import Callable
from pathlib import Path

from medadv.common.files import own, publish, write_file
from medadv.corpus.folder import Workspace
from medadv.corpus.receipt import Receipt, committed, receipt_bytes
from medadv.run.lock import exclusive


def commit(
    workspace: Workspace, name: str, index: int, temporary: Path | None, receipt: Receipt, proceed: Callable[[], None]
) -> Receipt:
    """Publish a verified shard and its receipt; returns the receipt that stands, which is an earlier one if somebody was faster.

    temporary: the finished file, None for a shard without samples.  proceed: raises when this maker is no longer wanted.
    """
    # A maker that was stopped in here keeps those out who belong to its run, and not the run that takes its place.
    with exclusive(own(workspace.commits), index):
        proceed()
        earlier = committed(workspace, name, receipt.plan)
        if earlier is not None:
            return earlier
        # A file that lies here without a receipt is what a maker left that died before its commit: it never counted.
        if temporary is not None:
            publish(temporary, workspace.shard(name))
        write_file(workspace.receipt(name), receipt_bytes(receipt))
        return receipt
