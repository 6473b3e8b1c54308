"""`medadv plan`."""

import json
from typing import Annotated

import typer

from medadv.cli.console import reporter
from medadv.cli.options import Json, Out, Override, Spec, TrustCode
from medadv.common.stop import stoppable


def plan(
    spec: Spec,
    out: Out = None,
    override: Override = None,
    trust_code: TrustCode = False,
    freeze: Annotated[bool, typer.Option("--freeze", help="write the plan down, for `run --part I/N` to work on")] = False,
    as_json: Json = False,
) -> None:
    """Say what a run would do: samples, shards, bytes, time here, what is already there. Writes nothing, but for --freeze.

    Example: medadv plan polyps.yaml --set preprocess.size=[256,256] --json
    """
    with stoppable() as stop:
        from medadv.prepare.describe import describe, facts_of
        from medadv.prepare.request import Options
        from medadv.run.part import freeze_plan

        options = Options(out, override or [], trust_code=trust_code)
        with reporter() as show:
            if freeze:
                facts = facts_of(freeze_plan(spec, options, show, stop))
                facts["frozen_samples"], facts["frozen_shards"] = facts["new_samples"], facts["new_shards"]
            else:
                facts = describe(spec, options, show, stop)
    if as_json:
        print(json.dumps(facts))
    else:
        # Its notes were shown while it was made.
        for key, value in ((key, value) for key, value in facts.items() if key != "notes"):
            print(f"{key.replace('_', ' ')}: {value}")
