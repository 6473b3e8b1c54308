"""What `plan` says before anything is made: figures that can be worked out by hand."""

from pathlib import Path

from tests.conftest import CLASSIFIER, SIZE, draw_pictures, quiet, save_victim, tiny_spec

from medadv.prepare.describe import describe
from medadv.prepare.request import Options


def test_passes_and_bytes_are_those_of_the_attacks(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 6)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    attacks = {
        "listing": {"attack": "smia-listing", "epsilon": 4, "steps": 10},
        "pgd": {"attack": "pgd", "epsilon": 200, "step": 50, "steps": 3},
        "smia": {"attack": "smia", "epsilon": 4, "step": 1, "steps": 5},
    }
    facts = describe(tiny_spec(tmp_path, attacks=attacks), Options(), quiet)
    # The listing's first step has nothing to smooth, and no gradient flows through what is smoothed.
    assert facts["forward_passes_per_sample"] == 19 + 3 + 10
    assert facts["backward_passes_per_sample"] == 10 + 3 + 10
    # One byte a value for the image and for perturbations of at most 127 grey levels, two for the others.
    assert facts["bytes_before_compression"] == 6 * 3 * SIZE * SIZE * (1 + 1 + 2 + 1)
    assert (facts["new_samples"], facts["new_shards"]) == (6, 2)
