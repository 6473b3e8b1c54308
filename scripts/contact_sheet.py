"""A picture of the demo's corpora for the README: one row a corpus, from phantoms alone.

    python scripts/contact_sheet.py medadv-demo/corpora/* --out manifests/contact-sheet.png
"""

import argparse
import base64
import io
from pathlib import Path

from PIL import Image

from medadv.common.errors import SpecError
from medadv.common.files import writable_file
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.report.cases import Look, choose, show
from medadv.report.columns import read_columns
from medadv.report.page import choose_window

CELL, GAP, COLOURS = 168, 6, 96


def row(corpus: Path) -> list[Image.Image]:
    """The pictures of the median case of the corpus's last attack: clean, perturbation, adversarial, predictions."""
    manifest = read_manifest(Workspace(corpus))
    columns = read_columns(corpus, manifest)
    name, settings = list(manifest.attacks.items())[-1]
    look = Look(choose_window(manifest, None)[0], settings.epsilon, manifest.victim.score_threshold, None)
    kind, number = next(pair for pair in choose(columns.attacks[name], 0) if pair[0].startswith("median"))
    cells = [picture.uri for picture in show(columns, name, kind, number, look, corpus.name).pictures if picture.uri]
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB") for uri in cells]


def main() -> None:
    """Paste the rows and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    try:
        writable_file(chosen.out)
    except SpecError as error:
        parser.error(str(error))
    rows = [row(corpus) for corpus in chosen.corpora]
    across = max(len(cells) for cells in rows)
    sheet = Image.new("RGB", (across * (CELL + GAP) - GAP, len(rows) * (CELL + GAP) - GAP), "white")
    for y, cells in enumerate(rows):
        for x, cell in enumerate(cells):
            sheet.paste(cell.resize((CELL, CELL), Image.Resampling.LANCZOS), (x * (CELL + GAP), y * (CELL + GAP)))
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(chosen.out, optimize=True)


if __name__ == "__main__":
    main()
