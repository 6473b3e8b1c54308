"""What a corpus was made with: packages, processor, GPU. No host name, user or path."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from medadv.corpus.manifest import EnvironmentFacts, ToolFacts

DECODERS = ("imagecodecs", "pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg")
PACKAGES = ("torch", "torchvision", "monai", "numpy", "h5py", "pydicom", "nibabel", "pillow", "dask", "distributed", *DECODERS)


def environment() -> EnvironmentFacts:
    """Versions and hardware."""
    return EnvironmentFacts(
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
        processor=_processor(),
        packages={name: _version(name) for name in PACKAGES},
        cuda=torch.version.cuda if torch.cuda.is_available() else None,
        gpu=torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )


def tool() -> ToolFacts:
    """Version of medadv, and the commit when it runs from a checkout."""
    return ToolFacts(name="medadv", version=_version("medadv"), commit=_commit())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    """Model name of the processor: results are bit-identical only on the same kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
