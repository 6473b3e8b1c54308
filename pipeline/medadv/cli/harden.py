"""`medadv harden`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from medadv.cli.console import reporter, tell
from medadv.cli.options import (
    Grace,
    Insecure,
    Json,
    Out,
    Override,
    Scheduler,
    SchedulerFile,
    Spec,
    TlsCa,
    TlsCert,
    TlsKey,
    TrustCode,
)
from medadv.common.stop import stoppable

if TYPE_CHECKING:
    from medadv.hardening.harden import Hardened
    from medadv.hardening.record import Three
    from medadv.report.record import Figure


def harden(
    spec: Spec,
    out: Out = None,
    now: Annotated[
        int | None,
        typer.Option(
            "--generations-now", min=1, help="end after so many generations, of which final images are one; exit code 7: more is left"
        ),
    ] = None,
    scheduler: Scheduler = None,
    scheduler_file: SchedulerFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure: Insecure = False,
    grace: Grace = 20.0,
    override: Override = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """Train the spec's model to withstand: corpora against the model of the moment, training on them, a control beside it, the best chosen.

    The spec's `hardening` says how. Run again to go on. Beside the weights of each generation: hardening.json and .html.

    Example: medadv harden polyps.yaml --set hardening.generations=20
    """
    with stoppable() as stop:
        from medadv.hardening.harden import harden as make
        from medadv.prepare.request import Address, Options

        address = Address(scheduler, scheduler_file, tls_ca, tls_cert, tls_key, insecure)
        options = Options(out, override or [], address, trust_code, False, "medadv harden", grace)
        with reporter() as show:
            done = make(spec, options, now, show, stop)
    if as_json:
        print(json.dumps(done.as_dict()))
    else:
        _tell(done)
    raise typer.Exit(done.exit_code)


def _tell(done: "Hardened") -> None:
    """What came out, in lines; what is to be believed least comes last, where it is seen."""
    record = done.record
    tell(f"{done.folder}: {len(record.generations)} of {record.settings.generations} generations")
    rows = [("victim", record.victim), *((f"generation {each.number}", each.validation) for each in record.generations)]
    for name, compared in rows:
        tell(f"  {name}: {record.metric} {_told(compared.clean)} clean, {_told(compared.robust)} attacked (validation)")
    if record.choice is not None:
        tell(f"  chosen: generation {record.choice.generation}. {record.choice.why}")
    if record.final is not None:
        tell("  final images:")
        three: list[tuple[str, Three]] = [("clean", record.final), *((f"epsilon {at.epsilon:g}", at) for at in record.final.at)]
        for name, each in three:
            tell(f"    {name}: victim {_told(each.victim)}, control {_told(each.control)}, chosen {_told(each.chosen)}")
    groups = {"validation": record.validation_groups, "final images": record.final and record.final.groups}
    for name in (name for name, count in groups.items() if count == 1):
        tell(f"  {name}: a single group, of which there is no interval")
    for worse in (each for each in record.generations if each.worse):
        tell(f"  WARNING: generation {worse.number} is worse under attack than the one before: {_told(worse.step)}")
    tell(f"  {done.files[-1]}" + (f"; {record.left} steps are left, run again" if record.left else ""))


def _told(figure: "Figure | None") -> str:
    if figure is None or figure.value is None:
        return "n/a"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
