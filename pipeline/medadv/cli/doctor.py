"""`medadv doctor`: the troubles that a run would meet on this machine, each with what to do about it."""

import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

from medadv.cli.options import Json
from medadv.common.errors import ExitCode, SpecError

PACKAGES = ("torch", "torchvision", "monai", "numpy", "h5py", "dask", "distributed", "pydicom", "nibabel", "pillow")
DECODERS = {
    "pylibjpeg": "compressed DICOM",
    "pylibjpeg-openjpeg": "JPEG 2000 in DICOM",
    "imagecodecs": "JPEG in DICOM",
    "pyjpegls": "JPEG-LS in DICOM",
}
HANDLES = 1024
"""Dask's workers and shards want about this many open files."""
SPEED_BYTES = 32 << 20
SLOW_MB_S = 50.0
SPACE_GB = 10.0
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
State = Literal["ok", "note", "trouble"]


@dataclass(frozen=True)
class Check:
    """One finding. advice is empty where there is nothing to do."""

    name: str
    state: State
    text: str
    advice: str = ""


def doctor(
    folder: Annotated[Path, typer.Argument(help="folder whose disk is measured: where corpora will lie")] = Path(),
    as_json: Json = False,
) -> None:
    """Look for the usual troubles: GPU, libraries, decoders, threads, file handles, disk. Exit code 4 when something is wrong.

    Example: medadv doctor /data/corpora
    """
    if not folder.is_dir():
        raise SpecError(f"{folder}: no such folder; name the one that corpora will lie in")
    found = examine(folder)
    if as_json:
        print(json.dumps([asdict(check) for check in found]))
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            print(f"{check.state:8}{check.name:{width}}  {check.text}")
            if check.advice:
                print(f"{'':8}{'':{width}}  -> {check.advice}")
    if any(check.state == "trouble" for check in found):
        raise typer.Exit(ExitCode.FAILED)


def examine(folder: Path) -> list[Check]:
    """Every check, on the disk of `folder`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        *libraries(_version),
        decoders(_version),
        devices(),
        threads(cores, dict(os.environ), os.getloadavg()[0]),
        handles(soft, hard),
        *disk(folder),
    ]


def libraries(installed: Callable[[str], str | None]) -> list[Check]:
    """Versions of the packages that a run needs. installed: name to version, None where a package is missing."""
    found = {name: installed(name) for name in PACKAGES}
    missing = [name for name, value in found.items() if value is None]
    text = ", ".join(f"{name} {value}" for name, value in found.items() if value)
    checks = [Check("libraries", "ok", text)]
    if missing:
        checks.append(Check("libraries", "trouble", f"missing: {', '.join(missing)}", "install medadv again, with its dependencies"))
    return checks


def decoders(installed: Callable[[str], str | None]) -> Check:
    """What compressed DICOM needs."""
    missing = {name: use for name, use in DECODERS.items() if installed(name) is None}
    if not missing:
        return Check("decoders", "ok", ", ".join(DECODERS))
    text = ", ".join(f"{name} ({use})" for name, use in missing.items())
    return Check("decoders", "trouble", f"missing: {text}", "install them; such files are quarantined otherwise")


def devices() -> Check:
    """Whether PyTorch sees the GPU that the machine has."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name(0)
        return Check("device", "ok", f"{torch.cuda.device_count()} GPU: {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        built = torch.version.cuda or "without CUDA"
        advice = "install a PyTorch build whose CUDA the driver knows, and look at CUDA_VISIBLE_DEVICES"
        return Check("device", "trouble", f"the machine has an NVIDIA driver, PyTorch (built {built}) sees no GPU", advice)
    return Check("device", "note", "no GPU; runs use the processor", "fine for 2D; whole CT volumes take long")


def threads(cores: int, settings: dict[str, str], load: float) -> Check:
    """Whether workers, one a core, would fight for the cores. load: of the last minute."""
    wanted = {name: settings[name] for name in THREADS if settings.get(name, "1").strip() not in ("", "1")}
    many = {name: value for name, value in wanted.items() if not value.isdigit() or int(value) > 1}
    if many and cores > 1:
        text = ", ".join(f"{name}={value}" for name, value in many.items())
        return Check("threads", "trouble", f"{text} in each of up to {cores} workers", "unset it, and set execution.threads in the spec")
    if load > 1.5 * cores:
        return Check("threads", "note", f"{cores} cores, load {load:.1f}", "others use this machine; a run will be slow")
    return Check("threads", "ok", f"{cores} cores, load {load:.1f}")


def handles(soft: int, hard: int) -> Check:
    """Open files that a process may have; -1 is no limit."""
    if soft == resource.RLIM_INFINITY or soft >= HANDLES:
        return Check("file handles", "ok", "no limit" if soft == resource.RLIM_INFINITY else str(soft))
    able = hard == resource.RLIM_INFINITY or hard >= HANDLES
    return Check("file handles", "trouble", f"{soft}", f"ulimit -n {HANDLES}" if able else "ask for a higher hard limit (limits.conf)")


def disk(folder: Path) -> list[Check]:
    """Free space, and how fast a file is written through to the disk."""
    free = shutil.disk_usage(folder).free / 1e9
    space = Check("disk space", "ok", f"{free:.0f} GB free")
    if free < SPACE_GB:
        space = Check("disk space", "trouble", f"{free:.1f} GB free", "`medadv plan SPEC` says how much a corpus takes")
    try:
        speed = write_speed(folder)
    except OSError as error:
        return [space, Check("disk speed", "trouble", f"cannot write here: {error.strerror}", "take another folder, or mend its rights")]
    if speed < SLOW_MB_S:
        return [space, Check("disk speed", "note", f"{speed:.0f} MB/s written", "a local disk is faster than one behind a network")]
    return [space, Check("disk speed", "ok", f"{speed:.0f} MB/s written")]


def write_speed(folder: Path) -> float:
    """MB/s of one file of random bytes, written and synchronised, then deleted."""
    block = os.urandom(SPEED_BYTES)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".medadv-doctor-") as file:
        started = time.perf_counter()
        file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return SPEED_BYTES / 1e6 / max(1e-9, time.perf_counter() - started)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
