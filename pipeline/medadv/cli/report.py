"""`medadv report`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.console import say, tell
from medadv.cli.options import AllowLinks, Corpus, Json


def report(
    corpus: Corpus,
    out: Annotated[Path | None, typer.Option("--out", help="HTML file to write; report.html in the corpus otherwise")] = None,
    window: Annotated[str | None, typer.Option(help="CT window to look through: lung, soft-tissue or bone; the victim's otherwise")] = None,
    allow_links: AllowLinks = False,
    as_json: Json = False,
) -> None:
    """Write one HTML file about a corpus, to open anywhere: metrics, distributions, contact sheets, methods. No network, no scripts.

    Example: medadv report corpora/lung --window lung --out lung.html
    """
    say("reading the corpus and drawing some of its samples")
    from medadv.report.page import write_report

    written = write_report(corpus, out, window, links=allow_links, tell=say)
    if as_json:
        print(json.dumps({"report": str(written), "bytes": written.stat().st_size}))
    else:
        tell(f"{written}: {written.stat().st_size / 1e6:.1f} MB; open it in a browser")
