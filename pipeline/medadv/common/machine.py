"""What does this machine multiply fast? Asked before anything is computed in fewer than 32 bits: emulation takes fifty times as long.

The answer comes from the instruction set, not from a processor's name, and obeys the variables that hold torch and oneDNN back, so that
a large processor can play a small one: ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 (and MKL_ENABLE_INSTRUCTIONS=AVX2 beside them).
"""

import os
import resource
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from medadv.common.errors import SpecError

MOST_THREADS = 1024
"""More than any processor has use for."""
CGROUP = Path("/sys/fs/cgroup")
CGROUP_LIMITS = ("memory/memory.limit_in_bytes", "memory/memory.soft_limit_in_bytes", "memory.max", "memory.high", "memory.low")
"""Where the kernel says what a container may take, in its older and its newer form: the limits that Dask looks at."""

Product = Literal["bf16", "fp16", "int8"]

INSTRUCTIONS: Mapping[Product, frozenset[str]] = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16"}),
    "fp16": frozenset({"avx512_fp16", "amx_fp16"}),
    # They multiply and add bytes without saturating on the way, which those before them did not.
    "int8": frozenset({"avx_vnni", "avx512_vnni", "amx_int8"}),
}
"""For each kind of product the instructions, as torch names them, one of which makes it faster than a product in fp32."""

_AVX2_VNNI = frozenset({"avx_vnni"})
_VNNI = _AVX2_VNNI | {"avx512_vnni"}
_BF16 = _VNNI | {"avx512_bf16"}
_FP16 = _BF16 | {"avx512_fp16"}
_AMX = _FP16 | {"amx_int8", "amx_bf16"}
_ALL = _AMX | {"amx_fp16"}
ONEDNN: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("sse41", "avx", "avx2", "avx512_core"), frozenset()),
    **dict.fromkeys(("avx2_vnni", "avx2_vnni_2"), _AVX2_VNNI),
    "avx512_core_vnni": _VNNI,
    "avx512_core_bf16": _BF16,
    **dict.fromkeys(("avx512_core_fp16", "avx10_1_512"), _FP16),
    **dict.fromkeys(("avx512_core_amx", "avx10_1_512_amx"), _AMX),
}
"""Instructions that ONEDNN_MAX_CPU_ISA leaves; what is not here, such as `all`, `default` and larger sets, leaves all of them."""
ATEN: Mapping[str, frozenset[str]] = {"default": frozenset(), "avx2": _AVX2_VNNI}
"""Likewise for ATEN_CPU_CAPABILITY."""


def fast_products(device: str = "cpu") -> frozenset[Product]:
    """The kinds of product that a device (`cpu` or `cuda`) computes faster than products in fp32.

    Processors other than x86-64, torch without oneDNN and torch that does not tell instructions have none: fp32 is never slow.
    """
    if device == "cuda":
        half: tuple[Product, ...] = ("bf16", "fp16")
        return frozenset(half) if torch.cuda.is_bf16_supported(including_emulation=False) else frozenset()
    left = _instructions() & ONEDNN.get(_onednn_limit(), _ALL) & ATEN.get(os.environ.get("ATEN_CPU_CAPABILITY", ""), _ALL)
    return frozenset(product for product, ways in INSTRUCTIONS.items() if ways & left)


def _instructions() -> frozenset[str]:
    tell = getattr(torch.cpu, "get_capabilities", dict)
    return frozenset(name for name, there in tell().items() if there) if torch.backends.mkldnn.is_available() else frozenset()


def _onednn_limit() -> str:
    # oneDNN takes its former name too, and any case; torch takes lower case alone.
    return (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").lower()


@contextmanager
def repeatable() -> Iterator[None]:
    """Have a GPU compute the same bits each time for a while, and products of fp32 in fp32; on a processor both is so anyway.

    cuDNN takes other algorithms from call to call, and rounds what goes into convolutions of fp32 to 11 bits (TF32) unless told.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


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


def check_threads(count: int) -> None:
    """Raise SpecError where so many threads cannot be started here. OpenMP, which is not asked, would end the process instead."""
    if count <= len(os.sched_getaffinity(0)) or (count <= MOST_THREADS and _startable(count)):
        return
    raise SpecError(f"execution.threads={count}: so many threads cannot be started here (at most {MOST_THREADS}); take fewer")


def set_threads(count: int) -> None:
    """Have torch compute with so many threads. SpecError: there cannot be so many."""
    check_threads(count)
    torch.set_num_threads(count)


def _startable(count: int) -> bool:
    enough = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            started.append(threading.Thread(target=enough.wait, daemon=True))
            started[-1].start()
    except (RuntimeError, MemoryError):
        started.pop()
        return False
    finally:
        enough.set()
        for thread in started:
            thread.join()
    return True
