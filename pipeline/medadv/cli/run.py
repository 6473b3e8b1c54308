"""`medadv run`."""

import json
from typing import Annotated

import typer

from medadv.cli.console import reporter, tell, tell_made
from medadv.cli.ending import ending
from medadv.cli.options import (
    Grace,
    Insecure,
    Json,
    Out,
    Override,
    Part,
    Scheduler,
    SchedulerFile,
    Spec,
    TlsCa,
    TlsCert,
    TlsKey,
    TrustCode,
)
from medadv.common.errors import SpecError
from medadv.common.stop import stoppable


def run(
    spec: Spec,
    out: Out = None,
    scheduler: Scheduler = None,
    scheduler_file: SchedulerFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure: Insecure = False,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="show Dask's dashboard, behind a token (needs bokeh)")] = False,
    part: Part = None,
    grace: Grace = 20.0,
    override: Override = None,
    trust_code: TrustCode = False,
    rehash: Annotated[bool, typer.Option("--rehash", help="hash every input again, whatever its size and time say")] = False,
    as_json: Json = False,
) -> None:
    """Make a corpus; run again to resume, or to add what is new.

    Example: medadv run lung-slices.yaml --out corpora/lung --set attacks.smia-60.steps=5
    """
    with stoppable() as stop:
        from medadv.prepare.request import Address, Options
        from medadv.run.part import run_part
        from medadv.run.run import run as make

        address = Address(scheduler, scheduler_file, tls_ca, tls_cert, tls_key, insecure)
        if dashboard and address.is_given:
            raise SpecError("--dashboard is for the workers that medadv starts; a scheduler that is given has pages of its own, or none")
        options = Options(out, override or [], address, trust_code, rehash, "medadv run", grace, dashboard)
        if part is not None:
            with reporter() as show:
                done = run_part(spec, part, options, show, stop)
            print(json.dumps(done.as_dict()) if as_json else done.text)
            raise typer.Exit(done.exit_code)
        with reporter() as show:
            result = make(spec, options, show, stop)
    if as_json:
        print(json.dumps(result.as_dict()))
    else:
        tell_made(result)
        for line in ending(result, spec):
            tell(line)
    raise typer.Exit(result.exit_code)
