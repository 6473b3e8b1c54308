"""`medadv evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medadv.cli.console import reporter, tell, tell_result
from medadv.cli.options import Grace, Insecure, Json, Override, Part, Scheduler, SchedulerFile, TlsCa, TlsCert, TlsKey, TrustCode
from medadv.common.errors import SpecError
from medadv.common.stop import Stop, stoppable

if TYPE_CHECKING:
    from medadv.evaluate.evaluate import Evaluated


def evaluate(
    specs: Annotated[list[Path], typer.Argument(help="run spec (YAML); with --on several, one model each")],
    out: Annotated[Path | None, typer.Option("--out", help="folder of the evaluation; evaluations/NAME beside the spec otherwise")] = None,
    epsilons: Annotated[str | None, typer.Option(help="stored units, such as 1,2,4; the spec's otherwise")] = None,
    on: Annotated[Path | None, typer.Option("--on", help="attack nothing: what the models answer to the samples of this corpus")] = None,
    require: Annotated[
        list[str] | None, typer.Option("--require", help="'dice>=0.60' or 'dice@2>=0.60': exit code 6 where the interval begins below")
    ] = None,
    scheduler: Scheduler = None,
    scheduler_file: SchedulerFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure: Insecure = False,
    part: Part = None,
    grace: Grace = 20.0,
    override: Override = None,
    trust_code: TrustCode = False,
    as_json: Json = False,
) -> None:
    """How robust the spec's model is: of every sample the worst answer that a set of strong attacks finds, over epsilon.

    Makes a corpus, which verifies and reproduces as any does; run again to resume. Beside it: evaluation.json, .csv, .png and .html.

    Example: medadv evaluate polyps.yaml --epsilons 1,2,4 --require 'ap50@2>=0.30'
    """
    with stoppable() as stop:
        from medadv.evaluate.evaluate import evaluate as find
        from medadv.evaluate.evaluate import evaluate_part
        from medadv.evaluate.requirement import Requirement
        from medadv.prepare.request import Address, Options

        asked = [Requirement.of(text) for text in require or ()]
        wanted = None if epsilons is None else _numbers(epsilons)
        if on is not None:
            if asked or wanted or part:
                raise SpecError("--on attacks nothing: it goes without --epsilons, --require and --part")
            _answer_on(specs, on, out, override or [], trust_code, as_json, stop)
            return
        if asked and part:
            raise SpecError("a part makes shards and measures nothing: --require goes with the `medadv evaluate` that merges the parts")
        if len(specs) > 1:
            raise SpecError("several specs are for --on CORPUS; evaluate them one by one")
        address = Address(scheduler, scheduler_file, tls_ca, tls_cert, tls_key, insecure)
        options = Options(out, override or [], address, trust_code, False, "medadv evaluate", grace)
        if part is not None:
            with reporter() as show:
                done = evaluate_part(specs[0], part, options, wanted, show, stop)
            print(json.dumps(done.as_dict()) if as_json else done.text)
            raise typer.Exit(done.exit_code)
        with reporter() as show:
            found = find(specs[0], options, wanted, asked, show, stop)
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        _tell(found)
    raise typer.Exit(found.exit_code)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(f"--epsilons {text}: write numbers with commas, such as 1,2,4") from None


def _answer_on(
    specs: list[Path], corpus: Path, out: Path | None, overrides: list[str], trust_code: bool, as_json: bool, stop: Stop
) -> None:
    from medadv.corpus.folder import corpus_folder
    from medadv.evaluate.stored import as_text, on_corpus, write_leaderboard

    root = corpus_folder(corpus)
    with reporter() as show:
        board = on_corpus(specs, root, overrides, trust_code, show, stop)
    files = write_leaderboard(out or specs[0].resolve().parent / "evaluations" / f"on-{root.name}", board)
    if as_json:
        print(json.dumps({**board.model_dump(mode="json"), "files": [str(path) for path in files]}))
        return
    tell(as_text(board))
    tell(f"intervals and clinical figures in {files[0].parent}")


def _tell(found: "Evaluated") -> None:
    """What came out, in lines; what is to be believed least comes last, where it is seen."""
    tell_result(found.result)
    evaluation = found.evaluation
    for name, curve in evaluation.curves.items():
        told = [
            (f"{point.epsilon:g}" if point.epsilon else "clean", "n/a" if point.metric.value is None else f"{point.metric.value:.3f}")
            for point in curve.points
        ]
        tell(f"  {name} over epsilon: {', '.join(map(' '.join, told))}; halves at {curve.halving.text}")
    warnings = [flag.sentence for flag in evaluation.flags if flag.sentence] + evaluation.binarization.warnings
    for text in warnings:
        tell(f"  WARNING: {text}")
    tell(f"  {found.files[-1]}")
    for line in found.unmet:
        tell(f"  NOT MET: {line}")
