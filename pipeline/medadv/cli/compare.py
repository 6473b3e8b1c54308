"""`medadv compare`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.console import reporter
from medadv.cli.options import Json, Override, TrustCode

DEFAULT_LIMIT = 64


def compare(
    specs: Annotated[list[Path], typer.Argument(help="run specs (YAML); several attacks each, and a `second_victim` for transfer")],
    out: Annotated[Path | None, typer.Option("--out", help="folder for CSV, JSON and PNG; comparisons/ beside each spec otherwise")] = None,
    limit: Annotated[int, typer.Option(min=2, help="samples to measure on")] = DEFAULT_LIMIT,
    override: Override = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Attacks side by side: as stored, blurred, after JPEG or resampling, on a second victim, between random starts.

    Intervals are over groups (patients, say), where the data name them.

    Example: medadv compare lung-slices.yaml --limit 32 --out comparisons
    """
    from medadv.compare.compare import compare as measure
    from medadv.compare.write import as_records, as_text

    answers = []
    for spec in specs:
        with reporter() as show:
            found = measure(spec, out, limit, override or [], trust_code, show)
        answers.append(
            {"spec": found.name, "metric": found.metric, "files": [str(path) for path in found.files], "attacks": as_records(found.rows)}
        )
        if not as_json:
            print(f"{found.name}: {found.metric}, lower is a stronger attack; intervals in {found.files[0]}")
            print(as_text(found.rows))
    if as_json:
        print(json.dumps(answers))
