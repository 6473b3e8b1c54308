"""What starts runs by itself, and how is it set up? Scripts for SLURM, cron and systemd, copied with the paths of this installation."""

import re
import shlex
import shutil
import sys
from pathlib import Path

from medadv.common.errors import SpecError
from medadv.common.files import all_or_nothing
from medadv.common.shipped import shipped

README = "README.md"
SCHEDULES: dict[str, tuple[str, ...]] = {
    "slurm": ("array.sh",),
    "jobqueue": ("jobqueue.py",),
    "cron": ("crontab", "nightly"),
    "systemd": ("medadv@.service", "medadv@.timer", "nightly"),
}
"""Files of each schedule; README.md goes with every one."""
NEXT = {
    "slurm": "{} submit SPEC N      # freezes the plan, N parts as a job array, then the merge",
    "jobqueue": "python {} SPEC      # Dask workers as SLURM jobs; needs medadv[slurm]",
    "cron": "set the spec in {0}, then: crontab {0}      # replaces the user's table; `crontab -e` adds to it",
    "systemd": "put specs into /srv/medadv or set another folder in {}, copy both units to /etc/systemd/system, then: "
    "systemctl enable --now medadv@NAME.timer",
}
"""What is done with its first file."""
NIGHTLY, EXECUTABLE = "/opt/medadv/scripts/schedule/nightly", "/opt/medadv/bin/medadv"
"""Paths that the files have in the repository."""
PLAIN = re.compile(r"[\w/.+@-]+", re.ASCII)
"""Paths that need no quotes anywhere."""


def write_schedule(name: str, folder: Path) -> tuple[list[Path], str]:
    """Write the files of a schedule into `folder`. Gives their paths, and what to do next.

    Paths to medadv and between the files become those that they have here.

    Raises SpecError: no such schedule, a file is there already, or the folder cannot be written to or named in cron's and systemd's files.
    """
    if name not in SCHEDULES:
        raise SpecError(f"--schedule {name}: take {', '.join(SCHEDULES)}")
    files = (*SCHEDULES[name], README)
    for file in files:
        if file != README and (folder / file).exists():
            raise SpecError(f"{folder / file}: exists already; name another folder with --out")
    paths = {NIGHTLY: str(folder.resolve() / "nightly"), EXECUTABLE: medadv_path()}
    if "nightly" in files and (odd := next((path for path in paths.values() if not PLAIN.fullmatch(path)), None)):
        raise SpecError(f"{odd}: cron and systemd read spaces and signs in a path in ways of their own; name another folder with --out")
    with all_or_nothing(folder) as made:
        for file in files:
            text = (shipped("schedule") / file).read_text(encoding="utf-8")
            if file != README:
                for theirs, here in paths.items():
                    text = text.replace(theirs, here)
            (made / file).write_text(text, encoding="utf-8")
            (made / file).chmod(0o755 if text.startswith("#!") else 0o644)
    return [folder / file for file in files], NEXT[name].format(shlex.quote(str(folder / files[0])))


def medadv_path() -> str:
    """Where the command lies: beside this Python, or on the PATH; the plain name where it is in neither."""
    beside = Path(sys.executable).with_name("medadv")
    return str(beside) if beside.exists() else shutil.which("medadv") or "medadv"
