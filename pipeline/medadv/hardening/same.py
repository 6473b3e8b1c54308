"""Are the images still those that a hardening was begun with? Their hashes, labels and groups are written down once.

Every corpus is held against them. At equal counts, too: a patient's name that is corrected meanwhile draws another cut, and training would
see what validation asks.
"""

import json
from pathlib import Path
from typing import Literal

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.files import write_file
from medadv.common.hashing import canonical_json, hash_value
from medadv.common.record import Json
from medadv.corpus.folder import Workspace
from medadv.corpus.opening import open_corpus
from medadv.hardening.folder import VALIDATION, Home, remove_corpus
from medadv.hardening.work import Work
from medadv.plan.frozen import generations, live_lines

Images = Literal["training", "validation", "final"]
WHAT: dict[Images, str] = {
    "training": "the images that are trained on",
    "validation": "the images of validation",
    "final": "the final images",
}


def refuse_other_images(work: Work, images: Images, corpus: Path) -> None:
    """Hold a corpus against what was written down of its images, or write it down where nothing was.

    SpecError where they differ: the corpus and what was measured on it are gone then, so that it is made anew once they are put back.
    """
    now, noted = _identity(corpus), _noted(work.home)
    if now is None:
        return
    if images not in noted:
        write_file(work.home.images, canonical_json({**noted, images: now}) + b"\n", mode=0o600)
    elif noted[images] != now:
        remove_corpus(work.home, corpus)
        raise SpecError(
            f"{work.home.root}: {WHAT[images]} are not what they were when it was begun, or their labels or groups are not: figures would "
            "not compare; put them back and run again, or begin anew with --out DIR"
        )


def note_images(work: Work, number: int) -> None:
    """Write down the images of the last generation where they were not yet, as in a hardening that an earlier medadv began."""
    found: tuple[tuple[Images, Path], ...] = (
        ("training", work.home.corpus(number)),
        ("validation", work.home.generation(number) / VALIDATION),
    )
    for images, corpus in found:
        if images not in _noted(work.home):
            refuse_other_images(work, images, corpus)


def _identity(corpus: Path) -> Json:
    """How many samples a corpus holds, and the hash of their ids, labels and groups in its order; None where its shards are gone.

    Labels as their files have them, so that mirroring changes nothing; groups by number, since each corpus has a key of its own.
    """
    planned = {sample.id: sample for _, shard in live_lines(generations(Workspace(corpus).plans)) for sample in shard.samples}
    if not planned:
        return None
    groups: dict[str, int] = {}
    rows: list[Json] = []
    for entry in open_corpus(corpus, check=False).shards:
        receipt, problem = entry.receipt(corpus)
        if receipt is None:
            raise IntegrityError(f"{corpus / entry.path}: {problem}; run `medadv verify`")
        for record in receipt.records:
            sample = planned[record.id]
            rows.append([sample.id, sample.label_sha256, groups.setdefault(sample.group, len(groups))])
    return {"samples": len(rows), "sha256": hash_value(rows)}


def _noted(home: Home) -> dict[str, Json]:
    """What was written down, by images."""
    try:
        found: dict[str, Json] = json.loads(home.images.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise IntegrityError(f"{home.images}: is damaged; put it back from a copy") from None
    return found
