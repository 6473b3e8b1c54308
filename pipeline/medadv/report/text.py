"""The report without pictures: its figures as JSON, or as a section of a model card."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from medadv.common.files import writable_file, write_file
from medadv.common.progress import SILENT
from medadv.corpus.folder import refuse_in_corpus
from medadv.report.card import card
from medadv.report.page import read_report


def as_text(
    corpus: Path,
    kind: Literal["json", "card"],
    window: str | None = None,
    *,
    links: bool = False,
    tell: Callable[[str], None] = SILENT.message,
) -> str:
    """The whole text; arguments and errors as of `write_report`."""
    report = read_report(corpus, window, links=links, tell=tell)
    if kind == "card":
        return card(report)
    return json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(out: Path, text: str) -> Path:
    """Write it to a file.  SpecError where that cannot be written, or lies in a corpus."""
    refuse_in_corpus(out)
    target = writable_file(out)
    write_file(target, text.encode())
    return target
