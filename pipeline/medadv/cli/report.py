"""`medadv report`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.console import say, tell
from medadv.cli.options import AllowLinks, Corpus, Json


class Format(StrEnum):
    """What is written."""

    HTML = "html"
    JSON = "json"
    CARD = "card"


def report(
    corpus: Corpus,
    out: Annotated[
        Path | None, typer.Option("--out", help="file to write; html: report.html in the corpus otherwise, json and card: standard output")
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="html: a page to open anywhere; json: its figures; card: a section of a model card, Markdown")
    ] = Format.HTML,
    window: Annotated[str | None, typer.Option(help="CT window to look through: lung, soft-tissue or bone; the victim's otherwise")] = None,
    allow_links: AllowLinks = False,
    as_json: Json = False,
) -> None:
    """Write a report about a corpus: what was tested and how, metrics and their drops, a checklist, limits, contact sheets, methods. No
    network, no scripts.

    Example: medadv report corpora/lung --window lung --out lung.html
    """
    say("reading the corpus and drawing some of its samples" if format_ is Format.HTML else "reading the corpus")
    from medadv.report.page import write_report
    from medadv.report.text import as_text, write_text

    if format_ is Format.HTML:
        written = write_report(corpus, out, window, links=allow_links, tell=say)
    else:
        text = as_text(corpus, "card" if format_ is Format.CARD else "json", window, links=allow_links, tell=say)
        if out is None:
            print(text, end="")
            return
        written = write_text(out, text)
    size = written.stat().st_size
    if as_json:
        print(json.dumps({"report": str(written), "bytes": size}))
    elif format_ is Format.HTML:
        tell(f"{written}: {size / 1e6:.1f} MB; open it in a browser")
    else:
        tell(f"{written}: {size:,} bytes")
