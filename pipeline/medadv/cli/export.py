"""`medadv export`."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.completion import attacks, samples
from medadv.cli.console import reporter, tell
from medadv.cli.options import AllowLinks, Code, Corpus, Json, TrustCode, Weights


class Format(StrEnum):
    """What `export` writes."""

    NIFTI = "nifti"
    DICOM = "dicom"
    PNG = "png"


class Grid(StrEnum):
    """The voxel grid of exported images."""

    STORED = "stored"
    NATIVE = "native"


def export(
    corpus: Corpus,
    kind: Annotated[Format, typer.Option("--format", help="file format")],
    out: Annotated[Path, typer.Option("--out", help="new folder for the files")],
    attack: Annotated[
        str | None, typer.Option(help="attack whose examples to write; the corpus's first otherwise", autocompletion=attacks)
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="write the clean images too")] = False,
    sample: Annotated[
        list[str] | None, typer.Option("--sample", help="only this sample; may be given several times", autocompletion=samples)
    ] = None,
    grid: Annotated[Grid, typer.Option(help="stored: exactly what is stored; native: crops undone")] = Grid.STORED,
    lossy: Annotated[bool, typer.Option("--lossy", help="resample for --grid native, and score the result again")] = False,
    weights: Weights = None,
    trust_code: TrustCode = False,
    code: Code = None,
    allow_links: AllowLinks = False,
    as_json: Json = False,
) -> None:
    """Write adversarial images as files for whole-system tests, marked as derived and synthetic.

    Example: medadv export corpora/lung --format dicom --out /tmp/series --attack smia-20
    """
    from medadv.export.export import Request
    from medadv.export.export import export as write

    with reporter() as show:
        request = Request(
            kind.value, out, attack, clean, tuple(sample or ()), grid.value, lossy, tuple(weights or ()), trust_code, allow_links, code
        )
        summary = write(corpus, request, show)
    if as_json:
        print(json.dumps({key: value for key, value in asdict(summary).items() if value is not None}))
    else:
        tell(f"{out}: {summary.files} files of {summary.samples} samples, not for clinical use")
        if summary.metrics is not None:
            tell(f"  scored again after resampling: {summary.metrics}")
