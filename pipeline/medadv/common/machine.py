"""What is this machine? GPUs, memory and workers."""

import os
import resource
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")
CGROUP_LIMITS = ("memory/memory.limit_in_bytes", "memory/memory.soft_limit_in_bytes", "memory.max", "memory.high", "memory.low")
"""Where the kernel says what a container may take, in its older and its newer form: the limits that Dask looks at."""


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def memory_limit() -> int:
    """Bytes that this process and its children may take together: the machine's, or less where a container or a limit says so."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in CGROUP_LIMITS:
        try:
            allowed = int((CGROUP / name).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if allowed > 0:
            limit = min(limit, allowed)
    resident = resource.getrlimit(resource.RLIMIT_RSS)[1]
    return min(limit, resident) if resident > 0 else limit


def worker_memory(workers: int) -> int:
    """Bytes that each of so many local workers may take."""
    return int(memory_limit() / workers)


def default_workers(threads: int, device: str) -> int:
    """One worker per GPU, or per `threads` cores that this process may use."""
    if device == "cuda":
        return max(1, len(visible_gpus()))
    return max(1, len(os.sched_getaffinity(0)) // threads)
