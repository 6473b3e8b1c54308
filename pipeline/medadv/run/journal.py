"""Which shards were begun and never ended: how a run learns that workers die on one of them."""

from contextlib import suppress

from medadv.corpus.folder import Workspace

TOLERATED = 3
"""A shard on which this many workers died is looked at sample by sample."""


def begin(workspace: Workspace, name: str, token: str) -> int:
    """Note that a shard is begun; returns how many of this run's workers began it and neither finished nor failed."""
    workspace.begun.mkdir(exist_ok=True)
    before = deaths(workspace, name, token)
    with (workspace.begun / name).open("a") as stream:
        stream.write(f"{token}\n")
    return before


def deaths(workspace: Workspace, name: str, token: str) -> int:
    """How many of a run's workers began a shard and neither finished nor failed."""
    try:
        return (workspace.begun / name).read_text().split().count(token)
    except FileNotFoundError:
        return 0


def end(workspace: Workspace, name: str) -> None:
    """Forget the notes of a shard: it was made, or failed with an error that says why."""
    with suppress(OSError):
        (workspace.begun / name).unlink(missing_ok=True)


def clear(workspace: Workspace) -> None:
    """Forget all notes."""
    for path in workspace.begun.glob("*"):
        path.unlink(missing_ok=True)
