"""`medadv run`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from medadv.cli.console import reporter, tell_result
from medadv.cli.options import Json, Out, Override, Spec, TrustCode
from medadv.common.errors import SpecError
from medadv.common.stop import stoppable


def run(
    spec: Spec,
    out: Out = None,
    scheduler: Annotated[str | None, typer.Option(help="address of a running Dask scheduler, such as tls://host:8786")] = None,
    scheduler_file: Annotated[Path | None, typer.Option(help="file that a running Dask scheduler wrote")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="PEM file of the authority that signed the cluster's certificates")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate for the scheduler")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="its PEM key")] = None,
    insecure: Annotated[bool, typer.Option("--insecure-scheduler", help="use a scheduler without TLS; who reaches it acts as you")] = False,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="show Dask's dashboard, behind a token (needs bokeh)")] = False,
    part: Annotated[str | None, typer.Option(metavar="I/N", help="make only every N-th shard, from the I-th, without Dask")] = None,
    grace: Annotated[float, typer.Option(min=0, help="seconds that running shards get after SIGTERM, SIGINT or SIGUSR1")] = 20.0,
    override: Override = None,
    trust_code: TrustCode = False,
    rehash: Annotated[bool, typer.Option("--rehash", help="hash every input again, whatever its size and time say")] = False,
    as_json: Json = False,
) -> None:
    """Make a corpus; run again to resume, or to add what is new.

    Example: medadv run manifests/specs/lung-slices.yaml --out corpora/lung --set attacks.smia-20.steps=5
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
        tell_result(result)
    raise typer.Exit(result.exit_code)
