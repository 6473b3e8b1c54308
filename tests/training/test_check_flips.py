"""`scripts/check_flips.py` in the form that CI runs: 2D, one seed, half the steps. The whole of it is what the script does by itself."""

import runpy
from pathlib import Path

import torch

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_flips.py"


def test_flips_keep_what_is_learnt_and_wrong_masks_lose_it() -> None:
    script = runpy.run_path(str(SCRIPT))
    with torch.random.fork_rng(devices=[]):
        found = script["measure"](dims=2, seed=0, steps=script["STEPS"][2] // 2)
    assert script["holds"](found), found
