"""How robust is a spec's victim? A corpus of the worst answers at each epsilon, made as `run` makes any, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medadv.common.errors import ExitCode
from medadv.common.progress import Progress
from medadv.common.stop import Stop
from medadv.evaluate.measure import measured
from medadv.evaluate.record import Evaluation
from medadv.evaluate.requirement import Requirement, check, unmet
from medadv.evaluate.sets import evaluation_of
from medadv.evaluate.write import write_evaluation
from medadv.prepare.request import Options, asked
from medadv.run.part import PartResult, run_part
from medadv.run.run import Result, run

CORPUS = "corpus"


@dataclass(frozen=True)
class Evaluated:
    """What `medadv evaluate` found. unmet: what was required and is not reached, a line each."""

    result: Result
    evaluation: Evaluation
    files: list[Path]
    unmet: list[str]

    @property
    def exit_code(self) -> ExitCode:
        """That a requirement is not met weighs more than that inputs were quarantined."""
        return ExitCode.REQUIREMENT if self.unmet else self.result.exit_code

    def as_dict(self) -> Any:
        """The machine-readable result."""
        return {
            **self.result.as_dict(),
            "evaluation": self.evaluation.model_dump(mode="json"),
            "files": [str(path) for path in self.files],
            "unmet": self.unmet,
        }


def asking(options: Options, epsilons: Sequence[float] | None) -> Options:
    """Options under which a run makes the corpus of an evaluation.  epsilons: stored units; the spec's where none are given."""
    out = None if options.out is None else options.out / CORPUS
    return replace(options, out=out, change=partial(evaluation_of, epsilons=epsilons))


def evaluate(
    spec_path: Path,
    options: Options,
    epsilons: Sequence[float] | None,
    requirements: Sequence[Requirement],
    progress: Progress,
    stop: Stop | None = None,
) -> Evaluated:
    """Make or complete the corpus of an evaluation, and write what it says beside it.

    options: `out` is the folder of the evaluation, evaluations/NAME beside the spec by default; the corpus lies in `corpus` in it.
    Raises what `run` raises, and SpecError for requirements that no such evaluation can meet.
    """
    changed = asking(options, epsilons)
    if requirements:
        check(requirements, asked(spec_path, changed)[0])
    result = run(spec_path, changed, progress, stop)
    progress("evaluation", 0, 1, "reading what was stored")
    evaluation = measured(result.corpus, options.trust_code)
    files = write_evaluation(result.corpus.parent, evaluation)
    progress("evaluation", 1, 1, "")
    return Evaluated(result, evaluation, files, unmet(requirements, evaluation))


def evaluate_part(
    spec_path: Path, part: str, options: Options, epsilons: Sequence[float] | None, progress: Progress, stop: Stop
) -> PartResult:
    """One part of a job array; an evaluation without a part merges them and writes what follows."""
    return run_part(spec_path, part, asking(options, epsilons), progress, stop)
