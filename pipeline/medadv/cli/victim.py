"""`medadv victim`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.console import say, tell
from medadv.cli.options import Json, Override, TrustCode


def victim(
    target: Annotated[Path, typer.Argument(help="run spec (YAML), folder of a MONAI bundle or of nnU-Net, or a checkpoint")],
    override: Override = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Say what a victim is understood as: network, steps, window, head, classes, weights, and its answer to the first image of a spec.

    Example: medadv victim spleen.yaml
    """
    from medadv.prepare.understood import understood

    found = understood(target, override or [], trust_code)
    for note in found.notes:
        say(note)
    if as_json:
        print(json.dumps({**found.facts, "notes": list(found.notes)}))
        return
    for key, value in found.facts.items():
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            tell(f"{key}:")
            for index, each in enumerate(value, 1):
                tell(f"  {index}. {each}")
        else:
            tell(f"{key}: {value}")
