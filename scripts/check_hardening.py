#!/usr/bin/env python3
"""Does a hardening that is killed at random end with the same weights as one that is not? Real processes, really killed.

    medadv demo --out demo
    scripts/check_hardening.py demo/specs/fundus.yaml --set 'hardening={split: train, generations: 2, epochs: 1, validation: 0.3}'

An undisturbed hardening comes first, and tells how long one takes; another of the same spec is then killed (SIGKILL) at random moments,
--kills times, and goes on each time. Weights of all generations, of the control too, have to be equal bit for bit, and so have the records.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KILLED = -signal.SIGKILL
WEIGHTS = "*.safetensors"


def command(spec: Path, out: Path, settings: list[str]) -> list[str]:
    """The command line of a hardening."""
    changes = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "medadv", "harden", str(spec), "--out", str(out), *changes]


def killed(arguments: list[str], after_s: float) -> bool:
    """Whether a hardening was killed so long after it began; it may have ended before."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.kill()
    return process.wait() == KILLED


def differences(one: Path, other: Path) -> list[str]:
    """Weights and records that are not the same in both folders."""
    names = sorted(path.relative_to(one).as_posix() for path in [*one.rglob(WEIGHTS), one / "hardening.json"])
    found = sorted(path.relative_to(other).as_posix() for path in [*other.rglob(WEIGHTS), other / "hardening.json"])
    if names != found:
        return [f"files differ: {sorted({*names} ^ {*found})}"]
    return [name for name in names if (one / name).read_bytes() != (other / name).read_bytes()]


def main() -> None:
    """Harden twice, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings", help="as of medadv harden")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, disturbed = Path(folder) / "calm", Path(folder) / "disturbed"
        began = time.monotonic()
        subprocess.run(command(arguments.spec, calm, arguments.settings), check=True)
        whole = time.monotonic() - began
        kills = tries = 0
        while kills < arguments.kills and tries < 10 * arguments.kills:
            tries += 1
            # Mostly short, so that the hardening does not end before it was killed often enough.
            moment = whole * draw.uniform(0.05, 3.0 / arguments.kills)
            kills += killed(command(arguments.spec, disturbed, arguments.settings), moment)
            print(f"killed {kills} times, the last after {moment:.1f} s", flush=True)
        subprocess.run(command(arguments.spec, disturbed, arguments.settings), check=True)
        wrong = differences(calm, disturbed)
    print(f"{kills} kills of a hardening that takes {whole:.0f} s: " + (f"{wrong} differ" if wrong else "weights and records are equal"))
    sys.exit(bool(wrong) or kills < arguments.kills)


if __name__ == "__main__":
    main()
