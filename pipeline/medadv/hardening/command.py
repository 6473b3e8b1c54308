"""How does a program of one's own train a generation? A list of arguments, never a shell line, with its places filled in.

Places: `{corpus}` the corpus's folder, `{weights}` the file to start from, `{out}` the file to write, both safetensors by the names of the
bare network that `victim.network` builds, whatever form the victim's own file has, `{mode}` adversarial or clean (of the control),
`{epochs}`, `{seed}`, and `{generation}`, counted from 1.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import safe_open

from medadv.common.errors import RunError, SpecError
from medadv.common.files import sync
from medadv.hardening.cards import write_weights
from medadv.hardening.folder import WEIGHTS, Arm
from medadv.hardening.fresh import weights_of
from medadv.hardening.specs import beside
from medadv.hardening.training import bare_network, copied
from medadv.hardening.work import KEPT, Made, Work

LOG = "training.log"
TICK_S = 0.25
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
"""A bundle's folder gets no compiled code."""
SHOWN = 300
"""Characters of what a program said last that an error repeats."""


def train_by_command(work: Work, arm: Arm, number: int, newest: Made) -> None:
    """Have a program train one generation of an arm, and keep the weights that it wrote, if the victim's network takes them.

    Raises RunError where it fails or writes nothing, SpecError where the weights do not fit, StoppedError after a signal.
    """
    assert work.settings.command is not None
    folder, made = place_of(work, arm, number)
    places = {
        "corpus": str(newest.folder),
        "weights": str(start_of(work, arm, number, newest)),
        "out": str(made),
        "mode": "clean" if arm == "control" else "adversarial",
        "epochs": str(work.settings.epochs),
        "seed": str(work.settings.seed),
        "generation": str(number),
    }
    work.progress(f"training, {arm}", 0, 1, f"generation {number}, by {work.settings.command[0]}")
    run_program(work, filled(work.settings.command, places), folder / LOG)
    take(work, made, newest)


def place_of(work: Work, arm: Arm, number: int) -> tuple[Path, Path]:
    """Folder of a generation, and the file in it that new weights are put into; what a killed trainer left there is gone."""
    folder = work.home.generation(number, arm)
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "new.safetensors"
    made.unlink(missing_ok=True)
    return folder, made


def start_of(work: Work, arm: Arm, number: int, newest: Made) -> Path:
    """File of the weights that a generation starts from: safetensors by the network's own names, as later generations have them."""
    if (weights := weights_of(work, number - 1, arm)) is not None:
        return (work.base / weights).resolve()
    if not work.home.start.exists():
        write_weights(work.home.start, copied(bare_network(work.victim(newest).scored)))
    return work.home.start


def take(work: Work, made: Path, newest: Made) -> None:
    """Give new weights their name, if the victim's network takes them."""
    if not made.is_file():
        raise RunError(f"training ended well and left no weights in {made}; see {made.with_name(LOG)}")
    # The error of a file that does not fit names it.
    own = copied(bare_network(work.victim(newest, beside(made, work.base)).scored))
    with safe_open(made, "pt") as file:
        names = set(file.keys())
    if names != own.keys():
        # A prefix, or counters left out, is borne by medadv, and need not be by what trains the next generation.
        write_weights(made, own)
    sync(made)
    made.rename(made.with_name(WEIGHTS))
    sync(made.parent)


def filled(command: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """Arguments with places filled in; other braces stay as they are."""
    arguments = []
    for argument in command:
        for name, value in places.items():
            argument = argument.replace(f"{{{name}}}", value)
        arguments.append(argument)
    return arguments


def run_program(work: Work, arguments: Sequence[str], log: Path, folder: Path | None = None) -> None:
    """Run a program in a folder, the spec's unless given, until it ends, its words in a file of their own. A signal ends it."""
    with log.open("wb") as stream:
        try:
            process = subprocess.Popen(
                arguments,
                cwd=folder or work.base,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SpecError(f"hardening.command: {arguments[0]} cannot be started ({error.strerror})") from None
        try:
            while process.poll() is None:
                if work.stop.signal is not None:
                    _end(process, work.options.grace_s)
                    raise work.stop.error(KEPT)
                time.sleep(TICK_S)
        except BaseException:
            _end(process, 0)
            raise
    if process.returncode:
        said = log.read_bytes()[-SHOWN:].decode(errors="replace").strip().splitlines()
        raise RunError(f"training ended with {process.returncode}: {said[-1] if said else 'it said nothing'} ({log})")


def _end(process: "subprocess.Popen[bytes]", grace_s: float) -> None:
    """End a program and what it started."""
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
