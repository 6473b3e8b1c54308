#!/usr/bin/env python3
"""Do the tutorials run, and print what is stored in them? execute.py [--write] [--exact] [--keep DIR] [NOTEBOOK ...]

All three in order, in one folder of their own, since each goes on with what the one before left; of NOTEBOOKs only those, with --keep DIR
for the folder. Text has to be the stored one: words and whole numbers exactly, numbers with a point and percentages within 0.15 or a fifth,
since each kind of processor rounds in its own way (with --exact they have to be equal, too, as on the machine that wrote them); hashes and
durations are passed over. On a processor of another maker than the one that wrote them small networks end up as other networks: there
words and whole numbers alone are held, and what they decide (the generation that is chosen, where a metric halves) is passed over.
--write stores what came out, pictures included, with no other trace of the machine than the processor's maker: no times, no absolute paths.
"""

import argparse
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_output

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted(HERE.glob("[0-9]-*.ipynb"))
TIMEOUT_S = 1800
"""Of a cell; a minute on an idle machine."""
TOLERANCE, SHARE = 0.15, 0.2
"""Networks are trained here, and what differs in the last digit of a first step differs more in the end."""
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?|\d+(?=%)")
PROGRESS = re.compile(r"[\w ,/-]+: \d+ of \d+(?: \(.*\))?|\d+ workers? with \d+ threads? each.*|Matplotlib is building the font cache.*")
"""Lines that only a slow machine shows, or that say how large it is."""
PASSED_OVER = re.compile(r"\b[0-9a-f]{16,64}\b|\b\d+(?:\.\d+)? (?:s|ms|min)\b")
"""Hashes, which change with the last digit of any weight, and durations."""
DECIDED = re.compile(r"chosen: generation \d+\..*|halves at .*")
"""What figures of training decide in words."""


def maker() -> str:
    """Who made this processor, as Linux names it: kernels of linear algebra differ between makers, whatever instructions they share."""
    listed = Path("/proc/cpuinfo")
    found = re.search(r"vendor_id\s*:\s*(\S+)", listed.read_text()) if listed.is_file() else None
    return found[1] if found else platform.machine()


def environment(folder: Path) -> dict[str, str]:
    """What a kernel and the commands that it starts see."""
    settings = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "COLUMNS": "140", "NO_COLOR": "1"}
    # Nothing of what the person at this machine configured, and nothing left in their home.
    places = {name: str(folder / ".jupyter") for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    return {**os.environ, **settings, **places, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def executed(notebook: Path, folder: Path) -> NotebookNode:
    """The notebook with what it prints in `folder`, cleaned.  Raises CellExecutionError where a cell fails."""
    found = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as private:
        # Over sockets in a folder that nobody else can enter, in place of TCP.
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", connection_file=f"{private}/k.json")
        place = {"metadata": {"path": str(folder)}}
        client = NotebookClient(found, km=kernel, timeout=TIMEOUT_S, record_timing=False, resources=place)
        # A manager that was handed over is not shut down unless it is asked for.
        client.execute(cleanup_kc=True, env=environment(folder))
    return cleaned(found, folder)


def cleaned(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Without absolute paths of the folder it ran in, each cell's streams as one, and metadata that only says which machine it was."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "processor": maker(),
    }
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata = {}
        # What a command says on both streams comes in any order.
        said: dict[str, str] = {"stderr": "", "stdout": ""}
        for output in cell.outputs:
            if output.output_type == "stream":
                said[output.name] += output.text
        # Once it is whole: a stream comes in pieces, and one may end within a path.
        said = {name: re.sub(rf"{re.escape(str(folder))}/?", "", text) for name, text in said.items()}
        lines = {name: [line for line in text.splitlines() if not PROGRESS.fullmatch(line)] for name, text in said.items()}
        texts = {name: "\n".join(each).strip("\n") + "\n" for name, each in lines.items() if any(each)}
        streams = [new_output("stream", name=name, text=text) for name, text in texts.items()]  # type: ignore[no-untyped-call]
        cell.outputs = [*streams, *(output for output in cell.outputs if output.output_type != "stream")]
    return notebook


def text_of(cell: NotebookNode) -> str:
    """All that a cell printed."""
    parts = [output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return PASSED_OVER.sub("…", "".join(parts))


def differences(stored: NotebookNode, now: NotebookNode, exact: bool = False) -> Iterator[str]:
    """A line for each cell that prints something else than is stored."""
    alike = stored.metadata.get("processor") == now.metadata.get("processor")
    for number, (before, after) in enumerate(zip(stored.cells, now.cells, strict=True)):
        if before.cell_type != "code":
            continue
        old, new = text_of(before), text_of(after)
        if not alike:
            old, new = (DECIDED.sub("…", each) for each in (old, new))
        if NUMBER.sub("#", old) != NUMBER.sub("#", new):
            yield f"cell {number} prints\n{new}\nwhere it had printed\n{old}"
            continue
        pairs = list(zip(NUMBER.findall(old), NUMBER.findall(new), strict=True))
        far = [pair for pair in pairs if pair[0] != pair[1] and (exact or (alike and not near(float(pair[0]), float(pair[1]))))]
        if far:
            yield f"cell {number}: " + ", ".join(f"{b} where {a} is stored" for a, b in far)
        if pictures(before) != pictures(after):
            yield f"cell {number} shows {pictures(after)} pictures where {pictures(before)} are stored"


def near(stored: float, now: float) -> bool:
    """Whether another processor may have made the difference."""
    return abs(stored - now) <= max(TOLERANCE, SHARE * abs(stored))


def pictures(cell: NotebookNode) -> int:
    """How many pictures a cell shows."""
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def main() -> None:
    """Execute, compare or write; exit code 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", type=Path, nargs="*", help="all of them otherwise")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder to run in, which stays")
    arguments = parser.parse_args()
    chosen = [path.resolve() for path in arguments.notebooks] or NOTEBOOKS
    with tempfile.TemporaryDirectory(prefix="tutorials-") as passing:
        folder = (arguments.keep or Path(passing)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "phantoms.py", folder)
        found: list[str] = []
        for notebook in chosen:
            started = time.monotonic()
            now = executed(notebook, folder)
            stored = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
            told = [] if arguments.write else [f"{notebook.name}: {line}" for line in differences(stored, now, arguments.exact)]
            if arguments.write:
                nbformat.write(now, notebook)  # type: ignore[no-untyped-call]
            outcome = "written" if arguments.write else f"{len(told)} differences"
            print(f"{notebook.name}: {time.monotonic() - started:.0f} s, {outcome}", flush=True)
            found += told
    print(*found, sep="\n\n", end="\n" if found else "")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
