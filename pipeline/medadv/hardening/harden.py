"""How is a victim hardened? Generation by generation; then one is chosen, and looked at on the final images.

Whatever is finished lies in a file, and what is not is made again: a hardening that was killed goes on where it was, and ends with the same
weights as one that was not (on one machine, bit for bit).
"""

from dataclasses import dataclass
from pathlib import Path

from medadv.common.errors import ExitCode, IntegrityError
from medadv.common.files import write_file
from medadv.common.progress import Progress
from medadv.common.record import Json, RecordError, parse
from medadv.common.stop import Stop
from medadv.hardening.arms import Arms
from medadv.hardening.choosing import choose, final_of
from medadv.hardening.folder import CARD, WEIGHTS, Home
from medadv.hardening.fresh import attacked, validated, weights_of
from medadv.hardening.generation import add_generation, compared_of
from medadv.hardening.record import Hardening
from medadv.hardening.specs import final_spec, settings_of, validation_spec
from medadv.hardening.work import Work, working
from medadv.hardening.write import write_hardening, write_record
from medadv.prepare.request import Options, asked


@dataclass(frozen=True)
class Hardened:
    """What `medadv harden` came to."""

    folder: Path
    record: Hardening
    files: list[Path]
    newly_quarantined: int

    @property
    def exit_code(self) -> ExitCode:
        """That more is left weighs more than that inputs were quarantined."""
        if self.record.left:
            return ExitCode.UNFINISHED
        return ExitCode.QUARANTINED if self.newly_quarantined else ExitCode.DONE

    def as_dict(self) -> dict[str, Json]:
        """The machine-readable result."""
        return {
            "hardening": str(self.folder),
            "left": self.record.left,
            "record": self.record.model_dump(mode="json"),
            "files": [str(path) for path in self.files],
        }


def harden(spec_path: Path, options: Options, now: int | None, progress: Progress, stop: Stop) -> Hardened:
    """Begin a hardening, or go on with it.

    options: `out` is its folder, hardenings/NAME beside the spec by default.  now: how many generations this call makes at most, of which
    the choice with its final images counts as one; all when None.

    Raises what `run` raises, and SpecError for a spec of which no hardening can be made, or that is not the one it was begun with.
    """
    spec, told = asked(spec_path, options)
    settings = settings_of(spec, options.trust_code)
    with working(spec_path, spec, settings, options, progress, stop) as work:
        for text in told:
            progress.message(text)
        record, arms = _record(work.home), Arms(work)
        made, files = 0, []
        while (record is None or record.left) and (now is None or made < now):
            done = 0 if record is None else len(record.generations)
            progress("generations", done, settings.generations + 1)
            if done < settings.generations:
                record = add_generation(work, arms, record)
            else:
                assert record is not None
                record = chosen(work, record)
                # The choice stands before anybody looks at the final images.
                write_record(work.home, record)
                record = looked_at(work, record)
            files = write_hardening(work.home, record)
            made += 1
        assert record is not None
        return Hardened(work.home.root, record, files or write_hardening(work.home, record), work.newly_quarantined)


def _record(home: Home) -> Hardening | None:
    """What was written down so far."""
    try:
        return parse(Hardening, home.record.read_bytes())
    except FileNotFoundError:
        return None
    except RecordError as error:
        raise IntegrityError(f"{home.record} {error}") from None


def chosen(work: Work, record: Hardening) -> Hardening:
    """The record with the choice. The control is attacked where it has come as far as the last generation."""
    last = len(record.generations)
    folder = work.home.generation(last, "control") / "attacked"
    control = attacked(work, folder, validation_spec(work.spec, last, weights_of(work, last, "control")), work.made(last))
    choice = record.choice or choose(record.generations, record.settings.clean_cost, record.metric)
    work.log("chosen", generation=choice.generation)
    generations = [
        each.model_copy(update={"gain": validated(work, each.number, work.made(last)).under().less(control.under())})
        for each in record.generations
    ]
    return record.model_copy(update={"control": compared_of(control), "choice": choice, "generations": generations})


def looked_at(work: Work, record: Hardening) -> Hardening:
    """The record with what victim, control and the chosen model are worth on the final images."""
    assert record.choice is not None
    number, newest = record.choice.generation, work.made(len(record.generations))
    weights = {"victim": None, "control": weights_of(work, number, "control"), "chosen": weights_of(work, number)}
    found = {
        name: attacked(work, work.home.final(name), final_spec(work.spec, name, file), newest, "final") for name, file in weights.items()
    }
    for name in (WEIGHTS, CARD):
        write_file(work.home.root / name, (work.home.generation(number) / name).read_bytes())
    return record.model_copy(update={"final": final_of(found["victim"], found["control"], found["chosen"])})
