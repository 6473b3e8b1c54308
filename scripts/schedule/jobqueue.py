"""A corpus by Dask workers that SLURM starts as jobs, more while there is work and none afterwards (needs the extra medadv[slurm]).

    python scripts/schedule/jobqueue.py SPEC [--jobs 16] [--queue cpu] [--interface ib0] [--keys FOLDER]

It starts the scheduler here and hands its address to `medadv run`, whose exit code it ends with. The log-in node must stay up; a run that
is stopped or killed goes on when this is called again.

Scheduler, workers and run speak TLS. The keys are made for this run, in a folder that only you may enter, beside the spec or at --keys;
all machines must see it. They go with the run.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from dask_jobqueue import SLURMCluster
from distributed.security import Security

from medadv.common.errors import MedadvError, SpecError
from medadv.run.keys import write_keys

NO_PAGES = "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES=[]"


@contextmanager
def keys(parent: Path) -> Iterator[tuple[str, str]]:
    """Paths of a certificate and its key, in a folder that is removed afterwards. SpecError: it cannot be made there."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".medadv-keys-", dir=parent.resolve()))
    except OSError as error:
        raise SpecError(f"{parent}: no keys can be written there ({error.strerror}); name another folder with --keys") from None
    try:
        cert, key = write_keys(folder / "tls")
        yield str(cert), str(key)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def security_of(cert: str, key: str) -> Security:
    """The same certificate for the scheduler, its workers and the run."""
    roles = {f"tls_{role}_{kind}": path for role in ("client", "scheduler", "worker") for kind, path in (("cert", cert), ("key", key))}
    return Security(tls_ca_file=cert, require_encryption=True, **roles)


def seconds_of(walltime: str) -> int:
    """Seconds of a time as SLURM takes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S. SpecError: it is none of these."""
    days, dash, clock = walltime.rpartition("-")
    parts = clock.split(":")
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    if len(parts) > len(units) or not all(part.isascii() and part.isdigit() for part in (*parts, *([days] if dash else []))):
        raise SpecError(f"--walltime {walltime}: write a time as SLURM takes it, such as 04:00:00 or 1-12 (a day and twelve hours)")
    return int(days or 0) * 86400 + sum(int(part) * unit for part, unit in zip(parts, units, strict=False))


def main() -> int:
    """Start workers as jobs, run, and return the run's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("spec")
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--queue")
    parser.add_argument("--interface")
    parser.add_argument("--keys", type=Path, help="folder that all machines see, for the keys of the run; the spec's otherwise")
    parser.add_argument("--walltime", default="04:00:00")
    arguments = parser.parse_args()
    try:
        with keys(arguments.keys or Path(arguments.spec).parent) as (cert, key):
            return work(arguments, cert, key)
    except MedadvError as error:
        print(f"jobqueue: {error}", file=sys.stderr)
        return int(error.exit_code)


def work(arguments: argparse.Namespace, cert: str, key: str) -> int:
    """Workers as jobs for as long as the run takes."""
    seconds = seconds_of(arguments.walltime)
    # Neither the scheduler nor a worker has pages for a browser.
    with (
        dask.config.set({"distributed.scheduler.http.routes": []}),
        SLURMCluster(
            cores=1,
            processes=1,
            memory="8GB",
            queue=arguments.queue,
            interface=arguments.interface,
            walltime=arguments.walltime,
            security=security_of(cert, key),
            protocol="tls://",
            scheduler_options={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            # Workers end before SLURM ends them (of four hours after 225 minutes, give or take ten), so that no shard is begun that
            # cannot be finished.
            worker_extra_args=["--no-dashboard", "--lifetime", f"{seconds * 15 // 16}s", "--lifetime-stagger", f"{seconds // 24}s"],
            # Memory is kept between the steps of an attack, and Dask watches less, see README.md.
            job_script_prologue=[
                "export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776",
                "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL=1s",
                f"export DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED=False {NO_PAGES}",
            ],
            job_extra_directives=["--requeue"],
        ) as cluster,
    ):
        cluster.adapt(minimum_jobs=1, maximum_jobs=arguments.jobs)
        command = [sys.executable, "-m", "medadv", "run", arguments.spec, "--scheduler", cluster.scheduler_address]
        command += ["--tls-ca", cert, "--tls-cert", cert, "--tls-key", key]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
