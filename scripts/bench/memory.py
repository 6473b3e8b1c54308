#!/usr/bin/env python
"""Peak memory of a whole run against the number of images: it may not grow.

    python scripts/bench/memory.py --pictures 1000 4000

Each size runs in processes of its own, one worker, single-step attacks on tiny pictures; peaks are those of the process that plans and of
the worker, as the system keeps them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from small import TINY, draw, write_spec

ATTACKS = {"fgsm-4": {"attack": "fgsm", "epsilon": 4}}


def one(pictures: int) -> dict[str, float]:
    """Run a corpus of so many pictures here and say what it took."""
    from medadv.common.progress import SILENT
    from medadv.prepare.request import Options
    from medadv.run.run import run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "data", pictures, 32)
        spec = write_spec(folder, 32, "monai:densenet121", TINY, ATTACKS, batch_size=16, shard_size=64, workers=1)
        started = time.monotonic()
        run(spec, Options(), SILENT)
        seconds = time.monotonic() - started
    own, workers = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"pictures": pictures, "planning_mib": round(own), "worker_mib": round(workers), "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one)))
        return
    for pictures in arguments.pictures:
        done = subprocess.run([sys.executable, __file__, "--one", str(pictures)], capture_output=True, text=True, check=True)
        print(done.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
