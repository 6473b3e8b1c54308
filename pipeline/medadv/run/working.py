"""Who holds the corpus while it is worked on? Lock, log and clean-up around a run, a part or `forget`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from medadv.common.errors import LockedError, MedadvError, RunError
from medadv.common.failures import explain
from medadv.common.files import writing_in
from medadv.common.log import Log
from medadv.common.progress import Progress
from medadv.common.stop import Stop
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.prepare.request import Options
from medadv.run import journal
from medadv.run.holder import alive_holder, describe_holder
from medadv.run.lock import WRITING, Hold, held, retire


@dataclass(frozen=True)
class Work:
    """What the shards of a corpus are made with, whoever asks for them: a run, a part of one, or `forget`."""

    workspace: Workspace
    hold: Hold
    options: Options
    progress: Progress
    stop: Stop
    log: Log
    started: datetime


TAKEN_OVER = "another run took this corpus over; every finished shard is kept"


def give_up(error: Exception, hold: Hold | None, log: Log | None, root: Path, taken_over: str = TAKEN_OVER) -> NoReturn:
    """Log a failure of the machine, and raise the one line that it means; the error itself where nobody knows one.

    root: the folder that is worked on.  taken_over: what is said where the lock is lost; its files are moved away then, so that none of
    them got its name any more.
    """
    lost = hold is not None and hold.lost and isinstance(error, FileNotFoundError)
    expected = RunError(taken_over) if lost else explain(error, root)
    if log is not None:
        log("failed", error=str(expected or error))
    if expected is None:
        raise error
    raise expected from None


@contextmanager
def working(workspace: Workspace, options: Options, progress: Progress, stop: Stop, forgets: str | None = None) -> Iterator[Work]:
    """Hold a corpus and everything that work on it needs; failures of the machine become one line.

    Nothing is left of a corpus in which nothing was planned. forgets: the group that a `forget` removes.

    Raises:
        LockedError: another run or part holds the corpus.  RunError: no space, no permission, no memory.
    """
    started = datetime.now(UTC)
    log, hold = None, None
    purpose = "run" if forgets is None else "forget"
    try:
        with workspace.made(), held(workspace.lock, purpose, forgets) as hold, writing_in(hold.folder), private.taken_back(workspace):
            for path in workspace.parts.glob("*.lock"):
                if holder := alive_holder(path):
                    raise LockedError(f"part {path.stem} of a job array holds this corpus: {describe_holder(holder)}")
            retire(workspace.parts / WRITING)
            log = Log(workspace.log, run=hold.token)
            log("start", command=options.command)
            private.sweep(workspace)
            journal.clear(workspace)
            yield Work(workspace, hold, options, progress, stop, log, started)
    except (OSError, MemoryError, RuntimeError) as error:
        give_up(error, hold, log, workspace.root)
    except MedadvError as error:
        if log is not None:
            log("failed", error=str(error), exit_code=error.exit_code)
        raise
