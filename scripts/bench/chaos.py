"""Kill workers and whole runs with SIGKILL at random times, and hold what is left against undisturbed runs.

    python scripts/bench/chaos.py [--kills 200] [--seed 0] [--folder DIR]

Corpora are made with 1, 2 and 3 workers in turn, each started again and again while processes are killed, until the kills are used up; each
is then finished without kills. At the end every corpus has the content root of an undisturbed run, verifies, holds each sample once and
no temporary file.

So that the time goes into work and not into importing torch, runs are forked from this process, and their workers from one fork server;
apart from that a run is what the command line makes of its arguments.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path

import dask
from small import TINY, draw, write_spec

from medadv.cli import app as cli
from medadv.evidence.verify import verify
from medadv.run import cluster

PICTURES = 36
MEAN_WAIT_S = 1.5
RUN_SHARE = 0.35
"""Share of the kills that hit the run itself rather than one of its workers."""
SPARED = 0.8
KILLED = -signal.SIGKILL


@dataclass
class Tally:
    """What was done to the runs."""

    kills: Counter[str] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Kills in all."""
        return self.kills.total()


def start_fork_server() -> int:
    """Start the process that all workers are forked from, as the first run would; returns its id."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        cluster._fork_from_one_import()
    server = forkserver._forkserver
    server.ensure_running()
    # A forked run finds the server running, but may not wait for it, since it is no child of the run.
    server.ensure_running = lambda: None  # type: ignore[method-assign]
    return int(server._forkserver_pid)


@dataclass(frozen=True)
class Run:
    """A `medadv run` in a forked process."""

    process: int

    @classmethod
    def start(cls, spec: Path, corpus: Path, workers: int, output: Path) -> "Run":
        """Fork; the child's standard output and error go to files."""
        process = os.fork()
        if process:
            return cls(process)
        code = 70
        try:
            for descriptor, suffix in ((1, ".out"), (2, ".err")):
                opened = os.open(output.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(opened, descriptor)
            sys.argv = ["medadv", "run", str(spec), "--out", str(corpus), "--set", f"execution.workers={workers}", "--json"]
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self) -> int | None:
        """Exit code, negative for the signal that ended it; None while it runs."""
        done, status = os.waitpid(self.process, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if done else None

    def wait(self) -> int:
        """Wait for the end."""
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def workers_of(server: int) -> list[int]:
    """Worker processes: the children of the fork server."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return [int(child) for child in children if Path(f"/proc/{child}/stat").exists()]


def disturb(spec: Path, corpus: Path, workers: int, kills: int, tally: Tally, chance: random.Random, server: int) -> None:
    """Start the run again and again and kill `kills` times; the corpus may or may not be finished afterwards."""
    left = kills
    log = corpus.with_suffix(".log")
    while left > 0:
        run = Run.start(spec, corpus, workers, log)
        code = run.ended()
        while left > 0 and code is None:
            time.sleep(chance.expovariate(1 / MEAN_WAIT_S))
            victims = workers_of(server)
            kind = "run" if chance.random() < RUN_SHARE or not victims else "worker"
            code = run.ended()
            # A run without workers is still starting: spare it more often than not, or nothing is ever begun.
            if code is not None or (not victims and chance.random() < SPARED):
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.process if kind == "run" else chance.choice(victims), signal.SIGKILL)
                tally.kills[kind] += 1
                left -= 1
        code = run.wait() if code is None else code
        tally.ends[code] += 1
        # 4: workers were killed four times on one shard; the run gives up, as it must, and is started again.
        if code not in (0, 4, KILLED):
            sys.exit(f"unexpected exit code {code}:\n{log.with_suffix('.err').read_text()[-3000:]}")
        if code == 0:
            return


def finish(spec: Path, corpus: Path, workers: int) -> str:
    """Let the run end in peace; returns the content root."""
    log = corpus.with_suffix(".log")
    code = Run.start(spec, corpus, workers, log).wait()
    if code != 0:
        sys.exit(f"exit code {code} in peace:\n{log.with_suffix('.err').read_text()[-3000:]}")
    return str(json.loads(log.with_suffix(".out").read_text())["content_root"])


def check(corpus: Path, expected: str, found: str) -> None:
    """What must hold of a corpus, whatever was killed."""
    if found != expected:
        sys.exit(f"{corpus}: content root {found}, undisturbed {expected}")
    if strays := [str(path.relative_to(corpus)) for name in (".tmp*", "writing") for path in corpus.rglob(name)]:
        sys.exit(f"{corpus}: stray files {strays}")
    if problems := verify(corpus):
        sys.exit(f"{corpus}: {problems}")
    ids = [r["id"] for path in (corpus / "shards").glob("*.json") for r in json.loads(path.read_text())["records"]]
    if len(ids) != PICTURES or len(set(ids)) != PICTURES:
        sys.exit(f"{corpus}: {len(ids)} samples, {len(set(ids))} different ones, of {PICTURES}")


def main() -> None:
    """Run the test and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    server = start_fork_server()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        draw(folder / "data", PICTURES, 32)
        attacks = {"smia-8": {"attack": "smia", "epsilon": 8, "step": 1, "steps": 20}}
        spec = write_spec(folder, 32, "monai:densenet121", TINY, attacks, batch_size=2, shard_size=2)
        expected = finish(spec, folder / "undisturbed", 1)
        tally = Tally()
        corpora = 0
        while tally.total < arguments.kills:
            for workers in arguments.workers:
                share = min(arguments.kills - tally.total, max(1, arguments.kills // (4 * len(arguments.workers))))
                if share <= 0:
                    continue
                corpus = folder / f"corpus-{corpora}"
                corpora += 1
                disturb(spec, corpus, workers, share, tally, chance, server)
                check(corpus, expected, finish(spec, corpus, workers))
                print(f"{corpus.name}: {workers} workers, {tally.total} kills so far", file=sys.stderr, flush=True)
    print(
        f"{tally.total} SIGKILLs ({tally.kills['run']} runs, {tally.kills['worker']} workers) over {corpora} corpora and "
        f"{tally.ends.total()} starts with {', '.join(map(str, arguments.workers))} workers in {time.monotonic() - began:.0f} s; "
        f"exit codes {dict(sorted(tally.ends.items()))}; every content root {expected[:16]}…, nothing lost, nothing twice, no stray file"
    )


if __name__ == "__main__":
    main()
