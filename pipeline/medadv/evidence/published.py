"""What a stranger starts from: the published manifest, the victim's weights, and this machine beside the one the corpus was made on."""

from pathlib import Path
from typing import Any

import torch

from medadv.common.errors import SpecError
from medadv.common.hashing import hash_file
from medadv.corpus.environment import environment
from medadv.corpus.folder import Workspace
from medadv.plan.frozen import generations
from medadv.spec.victim import VictimSettings
from medadv.victims.loading import load_victim
from medadv.victims.speed.profiles import Profile, with_profile
from medadv.victims.victim import Victim

DECISIVE = ("machine", "processor", "cpu_capability", "gpu", "cuda")
"""Parts of the environment that may change bits, beside the packages below; the rest is told, not compared."""
DECISIVE_PACKAGES = ("torch", "torchvision", "monai", "numpy")


def differences(manifest: dict[str, Any]) -> list[str]:
    """How this machine differs from the one the corpus was made on, as far as that may change bits."""
    there, here = manifest["environment"], environment()
    pairs = [(key, there.get(key), here.get(key)) for key in DECISIVE]
    pairs += [(name, there.get("packages", {}).get(name), here["packages"][name]) for name in DECISIVE_PACKAGES]
    pairs.append(("device", manifest["execution"]["device"], device_of(manifest)))
    return [f"{key}: {old} there, {new} here" for key, old, new in pairs if old != new]


def device_of(manifest: dict[str, Any]) -> str:
    """The device the corpus was made on, or the CPU where there is no GPU."""
    return "cuda" if manifest["execution"]["device"] == "cuda" and torch.cuda.is_available() else "cpu"


def load_published_victim(
    manifest: dict[str, Any], workspace: Workspace, shape: tuple[int, ...], weights: Path | None, trust_code: bool
) -> Victim:
    """The victim as the manifest describes it, on the CPU or GPU that the corpus was made on.

    Args:
        manifest: of the corpus.
        workspace: its folder; only the maker's holds the plan that knows where the weights lie.
        shape: (C, *spatial) of a stored image.
        weights: the weights file, or the program file of a victim that is one.
        trust_code: whether a `python:` factory may be imported.

    Raises:
        SpecError: the weights are missing, or others than the corpus was made against.
    """
    facts = manifest["victim"]
    settings = {key: facts[key] for key in VictimSettings.model_fields if key in facts}
    program = facts["program_sha256"]
    # Thread counts change bits, so the manifest sets them.
    torch.set_num_threads(manifest["execution"]["threads"])
    base = Path()
    if weights is not None:
        expected = program if program == facts["weights_sha256"] else facts["weights_sha256"]
        _hold(weights, expected)
        settings["network" if program == facts["weights_sha256"] else "weights"] = str(weights.resolve())
    else:
        plans = generations(workspace.plans)
        if not plans:
            raise SpecError(f"the victim's weights are missing: give --weights FILE with SHA-256 {facts['weights_sha256']}")
        spec, base = plans[0].spec["victim"], Path(plans[0].base)
        settings |= {"network": spec["network"], "weights": spec["weights"]}
        _hold(base / (spec["weights"] or spec["network"]), facts["weights_sha256"])
    task, device = manifest["data"]["task"], torch.device(device_of(manifest))
    victim, _ = load_victim(VictimSettings(**settings), task, base, device=device, sample_shape=shape, trust_code=trust_code)
    return with_profile(victim, Profile.of(manifest["execution"].get("profile")), shape)


def _hold(path: Path, expected: str) -> None:
    if not path.is_file():
        raise SpecError(f"the victim's weights are missing: no file {path}; give --weights FILE with SHA-256 {expected}")
    found = hash_file(path)
    if found != expected:
        raise SpecError(f"{path} holds other weights (SHA-256 {found}) than the corpus was made against ({expected})")
