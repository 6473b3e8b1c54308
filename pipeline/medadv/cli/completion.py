"""What may a half-typed word become? Names for the shell's completion, read only from what may safely be read, and never an error."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from medadv.corpus.manifest import Manifest

MOST = 200
"""Names offered: nobody reads more of them."""
PATIENCE_S = 0.5
"""No further receipt is read after so long: who pressed a key waits."""
MOST_BYTES = 32 * 2**20
"""A manifest that is larger is not read for a key press."""


def attacks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Attacks of the corpus that the command names."""
    return _names(ctx, incomplete, lambda root, manifest: iter(manifest.attacks))


def samples(ctx: typer.Context, incomplete: str) -> list[str]:
    """Sample ids of the corpus that the command names."""
    return _names(ctx, incomplete, _sample_ids)


def templates(incomplete: str) -> list[str]:
    """Templates of run specs."""
    from medadv.spec.templates import template_names

    with suppress(Exception):
        return [name for name in template_names() if name.startswith(incomplete)]
    return []


def schedules(incomplete: str) -> list[str]:
    """Schedules."""
    from medadv.run.schedules import SCHEDULES

    return [name for name in SCHEDULES if name.startswith(incomplete)]


def _names(ctx: typer.Context, incomplete: str, of: Callable[[Path, "Manifest"], Iterator[str]]) -> list[str]:
    found: list[str] = []
    # Nothing that goes wrong here is worth a line in the middle of somebody's command.
    with suppress(Exception):
        from medadv.corpus.folder import MANIFEST
        from medadv.corpus.opening import open_corpus

        # An option that still waits for its value ends click's parsing; what came before is then left in args.
        root = Path(ctx.params.get("corpus") or ctx.args[0])
        if (root / MANIFEST).stat().st_size <= MOST_BYTES:
            for name in of(root, open_corpus(root, check=False)):
                if name.startswith(incomplete):
                    found.append(name)
                if len(found) == MOST:
                    break
    return found


def _sample_ids(root: Path, manifest: "Manifest") -> Iterator[str]:
    from medadv.corpus.receipt import load_receipt

    started = monotonic()
    for entry in manifest.shards:
        if monotonic() - started > PATIENCE_S:
            return
        receipt, _ = load_receipt(root / entry.receipt_path, entry.receipt_sha256)
        yield from (record.id for record in receipt.records) if receipt is not None else ()
