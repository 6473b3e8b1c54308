"""`medadv demo`."""

import json
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from medadv.cli.console import reporter
from medadv.cli.options import Json


def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for phantoms, victims, specs and corpora")] = Path("medadv-demo"),
    as_json: Json = False,
) -> None:
    """Small phantoms of three modalities, victims trained on the spot, three corpora with reports, one table. Needs no download.

    Example: medadv demo --out /tmp/demo
    """
    from medadv.demo.demo import demo as make
    from medadv.demo.demo import rows

    began = monotonic()
    with reporter() as show:
        results = make(out.resolve(), show)
    if as_json:
        print(json.dumps([result.as_dict() for result in results]))
        return
    table = rows(results)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nphantoms, victims, specs and corpora: {out}, after {(monotonic() - began) / 60:.1f} min\nreports, to open in a browser:")
    for result in results:
        print(f"  {result.report}")
