"""Counts what is multiplied, and in which numbers."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

KINDS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64"}
MULTIPLIES = ("conv", "mm", "matmul", "linear", "addmv", "dot")


class Products(TorchDispatchMode):
    """While it is entered: convolutions and matrix products by kind, and under `other` any further operation in fewer than 32 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        kinds = {KINDS.get(leaf.dtype) for leaf in tree_leaves((args, kwargs or {}, found)) if isinstance(leaf, torch.Tensor)}
        kind = next((kind for kind in ("bf16", "fp16", "fp32", "fp64") if kind in kinds), None)
        name = func.overloadpacket.__name__
        if func.namespace in ("onednn", "quantized") or name in ("_int_mm", "_scaled_mm"):
            self.count["int8"] += 1
        elif kind is not None and any(part in name for part in MULTIPLIES):
            self.count[kind] += 1
        elif kind in ("bf16", "fp16"):
            self.count["other"] += 1
        return found
