"""Random transforms that follow from one seed, whatever process runs them, and leave every generator as it was found."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from monai.transforms.transform import Randomizable

from medadv.training.reach import Generator, generators_in

WORD = 1 << 32
"""NumPy's legacy generators and MONAI take seeds below it."""
Undo = Callable[[], object]


@contextmanager
def seeded(transform: Any, seed: int, *, process: bool) -> Iterator[None]:
    """Inside, every draw of `transform` follows from `seed`; afterwards all generators are where they were.

    Args:
        transform: whatever holds random transforms, see `generators_in`.
        seed: any whole number from 0.
        process: also the generators that the whole process shares: torch's, NumPy's, `random`'s, and the one that MONAI's transforms use
            which hold none of their own. Not for threads beside others, which would draw from them meanwhile.
    """
    with ExitStack() as undo:
        for way, generator in generators_in(transform):
            undo.callback(_seed(generator, derived(seed, way)))
        if process:
            undo.callback(_seed_transform(Randomizable, derived(seed, "MONAI")))
            for number, shared in enumerate(_of_process()):
                undo.callback(_seed(shared, derived(seed, f"process {number}")))
        yield


def derived(seed: int, name: str) -> int:
    """A 128-bit seed for each use of one."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:16], "little")


def _of_process() -> list[Generator]:
    # The seeds of CUDA's generators lie on the host, one a device; there are none in forked workers.
    devices = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
    # What `numpy.random.rand` and `random.random` are methods of.
    return [torch.default_generator, *devices, np.random.mtrand._rand, random._inst]


def _seed(generator: Generator, seed: int) -> Undo:
    """Start a generator from a seed; gives what puts it back."""
    if isinstance(generator, Randomizable):
        return _seed_transform(generator, seed)
    if isinstance(generator, torch.Generator):
        torch_state = generator.get_state()
        generator.manual_seed(seed % (1 << 63))
        return lambda: generator.set_state(torch_state)
    if isinstance(generator, random.Random):
        python_state = generator.getstate()
        generator.seed(seed)
        return lambda: generator.setstate(python_state)
    if isinstance(generator, np.random.RandomState):
        legacy_state = generator.get_state(legacy=False)
        generator.seed(seed % WORD)
        return lambda: generator.set_state(legacy_state)
    bits = generator.bit_generator
    state = bits.state
    bits.state = type(bits)(seed).state
    return lambda: setattr(bits, "state", state)


def _seed_transform(transform: Randomizable | type[Randomizable], seed: int) -> Undo:
    """A state of the transform's own for a while: as a rule it shares MONAI's with all others that were never seeded."""
    had, own = "R" in vars(transform), transform.R
    # A new Mersenne twister takes longer than most transforms.
    transform.R = np.random.RandomState(np.random.PCG64(seed))
    return lambda: setattr(transform, "R", own) if had else delattr(transform, "R")
