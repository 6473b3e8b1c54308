"""A corpus by Dask workers that SLURM starts as jobs, more while there is work and none afterwards (needs the extra medadv[slurm]).

    python scripts/schedule/jobqueue.py SPEC [--jobs 16] [--queue cpu] [--interface ib0]

It starts the scheduler here and hands its address to `medadv run`, whose exit code it ends with. The log-in node must stay up; a run that
is stopped or killed goes on when this is called again.
"""

import argparse
import subprocess
import sys

from dask_jobqueue import SLURMCluster


def main() -> int:
    """Start workers as jobs, run, and return the run's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("spec")
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--queue")
    parser.add_argument("--interface")
    parser.add_argument("--walltime", default="04:00:00")
    arguments = parser.parse_args()
    with SLURMCluster(
        cores=1,
        processes=1,
        memory="8GB",
        queue=arguments.queue,
        interface=arguments.interface,
        walltime=arguments.walltime,
        # Workers end before SLURM ends them, so that no shard is begun that cannot be finished.
        worker_extra_args=["--lifetime", "225m", "--lifetime-stagger", "10m"],
        # Memory is kept between the steps of an attack, and Dask watches less, see README.md.
        job_script_prologue=[
            "export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776",
            "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL=1s",
            "export DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED=False",
        ],
        job_extra_directives=["--requeue"],
    ) as cluster:
        cluster.adapt(minimum_jobs=1, maximum_jobs=arguments.jobs)
        command = [sys.executable, "-m", "medadv", "run", arguments.spec, "--scheduler", cluster.scheduler_address]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
