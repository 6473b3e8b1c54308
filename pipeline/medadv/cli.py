"""The command line. Verbs import what they need when they run, so that --help answers at once."""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from medadv.compare.verb import compare
from medadv.console import reporter, say
from medadv.doctor import doctor
from medadv.drain import stoppable
from medadv.errors import MedadvError
from medadv.evidence import register
from medadv.init import init
from medadv.report.verb import report

app = typer.Typer(
    name="medadv",
    help=(
        "Adversarial medical datasets that stay adversarial after they are stored.\n\n\b\n"
        "First steps:\n"
        "  medadv demo                          phantoms, small victims, three corpora with reports\n"
        "  medadv init data --out polyps.yaml   guess a run spec from a folder of images\n"
        "  medadv plan polyps.yaml              what a run would do\n"
        "  medadv run polyps.yaml               make the corpus; again: resume, or add new images\n"
        "  medadv report corpora/polyps         one offline HTML page about it\n"
        "  medadv COMMAND --help                each with an example"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Spec = Annotated[Path, typer.Argument(help="run spec (YAML); see manifests/specs/ for specs to copy")]
Corpus = Annotated[Path, typer.Argument(help="corpus folder")]
Out = Annotated[Path | None, typer.Option("--out", help="corpus folder, instead of the spec's `output`")]
Override = Annotated[list[str] | None, typer.Option("--set", help="change a setting, such as execution.batch_size=4")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable result on standard output")]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="allow a victim that is a python: factory")]


@app.command()
def run(
    spec: Spec,
    out: Out = None,
    scheduler: Annotated[str | None, typer.Option(help="address of a running Dask scheduler, such as tcp://host:8786")] = None,
    scheduler_file: Annotated[Path | None, typer.Option(help="file that a running Dask scheduler wrote")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="PEM file of the authority that signed the cluster's certificates")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate for the scheduler")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="its PEM key")] = None,
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
        from medadv.cluster import Address
        from medadv.part import run_part
        from medadv.run import Options
        from medadv.run import run as make

        address = Address(scheduler, scheduler_file, tls_ca, tls_cert, tls_key)
        options = Options(out, override or [], address, trust_code, rehash, _command(spec), grace)
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
        _tell(result.as_dict())
    raise typer.Exit(result.exit_code)


@app.command()
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
        from medadv.part import freeze_plan
        from medadv.run import Options, describe

        options = Options(out, override or [], trust_code=trust_code)
        with reporter() as show:
            if freeze:
                freeze_plan(spec, options, show, stop)
            facts = describe(spec, options, show, stop)
    if as_json:
        print(json.dumps(facts))
    else:
        for key, value in facts.items():
            print(f"{key.replace('_', ' ')}: {value}")


@app.command()
def forget(
    corpus: Corpus,
    group: Annotated[str, typer.Option(help="group_id of the patient, as the shards have it (32 hexadecimal digits)")],
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Remove a patient: the shards concerned are deleted at once and made anew without them, as a new generation.

    Example: medadv forget corpora/polyps --group 5f0c7a1be83d49d2a6b0c4f1e2d3a495
    """
    with stoppable() as stop:
        from medadv.forget import forget as remove
        from medadv.run import Options

        with reporter() as show:
            result = remove(corpus, group, Options(trust_code=trust_code, command="medadv forget"), show, stop)
    if as_json:
        print(json.dumps(result.as_dict()))
    else:
        _tell(result.as_dict())
    raise typer.Exit(result.exit_code)


register(app)
for _verb in (compare, report, doctor, init):
    app.command()(_verb)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for phantoms, victims, specs and corpora")] = Path("medadv-demo"),
    as_json: Json = False,
) -> None:
    """Small phantoms of three modalities, victims trained on the spot, three corpora with reports, one table. Needs no download.

    Example: medadv demo --out /tmp/demo
    """
    from medadv.demo.command import demo as make
    from medadv.demo.command import rows

    with reporter() as show:
        results = make(out.resolve(), show)
    if as_json:
        print(json.dumps(results))
        return
    table = rows(results)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nphantoms, victims, specs and corpora: {out}\nreports, to open in a browser:")
    for result in results:
        print(f"  {result['report']}")


def _tell(result: dict[str, Any]) -> None:
    new = f"{result['new_shards']} new shards" if result["new_shards"] else "nothing new"
    print(f"{result['corpus']}: {result['samples']} samples, {result['quarantined']} quarantined, {new}")
    for name, attack in result["attacks"].items():
        print(
            f"  {name}: {attack['metric']} {_number(attack['clean'])} clean, {_number(attack['adversarial'])} adversarial "
            f"(re-read), success {attack['success']:.0%}"
        )
    print(f"  content root {result['content_root']}")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _command(spec: Path) -> str:
    """The command for the manifest: file name of the spec, no folders."""
    return f"medadv run {spec.name}"


def main() -> None:
    """Entry point: expected failures become one line and an exit code."""
    # Libraries warn about themselves; what concerns the user is an error or a line of our own.
    warnings.filterwarnings("ignore")
    try:
        app()
    except MedadvError as error:
        say(f"medadv: {error}")
        sys.exit(error.exit_code)
