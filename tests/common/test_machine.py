"""What is multiplied fast: known processors, with and without the variables that hold torch and oneDNN back."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medadv.common.machine import INSTRUCTIONS, fast_products

HASWELL = ("avx", "avx2", "fma3")
ALDER_LAKE = (*HASWELL, "avx_vnni")
SKYLAKE = (*HASWELL, "avx512_f", "avx512_bw", "avx512_dq", "avx512_vl")
CASCADE_LAKE = (*SKYLAKE, "avx512_vnni")
ZEN_4 = (*CASCADE_LAKE, "avx512_bf16")
SAPPHIRE_RAPIDS = (*ZEN_4, "avx_vnni", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16")
GRANITE_RAPIDS = (*SAPPHIRE_RAPIDS, "amx_fp16")
SMALL = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}

Play = Callable[..., None]


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ((), set()),
        (HASWELL, set()),
        (ALDER_LAKE, {"int8"}),
        (SKYLAKE, set()),
        (CASCADE_LAKE, {"int8"}),
        (ZEN_4, {"int8", "bf16"}),
        (SAPPHIRE_RAPIDS, {"int8", "bf16", "fp16"}),
        (("amx_tile", "amx_bf16"), {"bf16"}),
        (("amx_tile", "amx_fp16"), {"fp16"}),
        (("neon", "fp16_arith", "bf16", "i8mm", "sve_bf16"), set()),
    ],
)
def test_instructions_say_what_is_fast(play: Play, processor: tuple[str, ...], expected: set[str]) -> None:
    play(*processor)
    assert fast_products() == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (SMALL, set()),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, set()),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, {"int8"}),
        ({"ATEN_CPU_CAPABILITY": "default"}, set()),
        ({"ONEDNN_MAX_CPU_ISA": "avx2_vnni"}, {"int8"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, set()),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, {"int8"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, {"int8", "bf16"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "default"}, set()),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"}, {"int8", "bf16", "fp16"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX_FP16"}, {"int8", "bf16", "fp16"}),
        ({"ONEDNN_MAX_CPU_ISA": "ALL", "ATEN_CPU_CAPABILITY": "avx512"}, {"int8", "bf16", "fp16"}),
        # The former name counts where the present one is not set; neither library obeys what it does not know.
        ({"DNNL_MAX_CPU_ISA": "AVX2"}, set()),
        ({"ONEDNN_MAX_CPU_ISA": "", "DNNL_MAX_CPU_ISA": "AVX2"}, set()),
        ({"ONEDNN_MAX_CPU_ISA": "ALL", "DNNL_MAX_CPU_ISA": "AVX2"}, {"int8", "bf16", "fp16"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX3", "ATEN_CPU_CAPABILITY": "AVX2"}, {"int8", "bf16", "fp16"}),
    ],
)
def test_a_large_processor_plays_a_small_one(
    play: Play, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: set[str]
) -> None:
    play(*GRANITE_RAPIDS)
    assert fast_products() == set(INSTRUCTIONS)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert fast_products() == expected


def test_nothing_is_fast_without_onednn_or_where_torch_tells_no_instructions(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play(*ZEN_4)
    with monkeypatch.context() as context:
        context.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert fast_products() == set()
    assert fast_products() != set()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fast_products() == set()


@pytest.mark.parametrize(("able", "expected"), [(True, {"bf16", "fp16"}), (False, set())])
def test_a_gpu_that_emulates_bf16_is_not_fast_in_it(monkeypatch: pytest.MonkeyPatch, able: bool, expected: set[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: able or including_emulation)
    assert fast_products("cuda") == expected


def told(variables: dict[str, str]) -> dict[str, object]:
    """What a new process with these variables, and none of those of this one, finds."""
    kept = {name: value for name, value in os.environ.items() if name not in (*SMALL, "DNNL_MAX_CPU_ISA")}
    code = (
        "import json, torch; from medadv.common.machine import fast_products; "
        "print(json.dumps({'fast': sorted(fast_products()), 'torch': torch.backends.cpu.get_cpu_capability()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**kept, **variables}, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables name instruction sets of x86-64")
def test_this_processor_with_the_variables_really_set() -> None:
    assert told(SMALL) == {"fast": [], "torch": "AVX2"}


def test_this_processor_is_what_the_kernel_says() -> None:
    """Linux names these instructions as torch does."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    flags = next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("the kernel lists no x86 flags here")
    assert told({})["fast"] == sorted(product for product, ways in INSTRUCTIONS.items() if ways & flags)
