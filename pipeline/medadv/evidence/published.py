"""What a stranger starts from: the published manifest, the victim's weights, and this machine beside the one the corpus was made on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from medadv.common.errors import SpecError
from medadv.common.hashing import hash_file
from medadv.common.machine import set_threads
from medadv.corpus.environment import environment
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest
from medadv.plan.frozen import generations
from medadv.plan.plan_settings import VictimFacts
from medadv.spec.victim import VictimSettings
from medadv.victims.loading import VictimRequest
from medadv.victims.speed import Profile
from medadv.victims.victim import Victim

DECISIVE = ("machine", "processor", "cpu_capability", "gpu", "cuda")
"""Parts of the environment that may change bits, beside the packages below; the rest is told, not compared."""
DECISIVE_PACKAGES = ("torch", "torchvision", "monai", "numpy")


def differences(manifest: Manifest) -> list[str]:
    """How this machine differs from the one the corpus was made on, as far as that may change bits."""
    there, here = manifest.environment, environment()
    pairs = [(key, getattr(there, key), getattr(here, key)) for key in DECISIVE]
    pairs += [(name, there.packages.get(name), here.packages.get(name)) for name in DECISIVE_PACKAGES]
    pairs.append(("device", manifest.execution.device, device_of(manifest)))
    return [f"{key}: {old} there, {new} here" for key, old, new in pairs if old != new]


def device_of(manifest: Manifest) -> str:
    """The device the corpus was made on, or the CPU where there is no GPU."""
    return "cuda" if manifest.execution.device == "cuda" and torch.cuda.is_available() else "cpu"


def load_published_victim(
    manifest: Manifest,
    workspace: Workspace,
    shape: tuple[int, ...],
    weights: Sequence[Path],
    trust_code: bool,
    code: Path | None = None,
) -> Victim:
    """The victim as the manifest describes it, on the CPU or GPU that the corpus was made on.

    Args:
        manifest: of the corpus.
        workspace: its folder; only the maker's holds the plan that knows where the weights lie.
        shape: (C, *spatial) of a stored image.
        weights: the weights file, or the program file of a victim that is one; of several victims, or members,
            all files, in any order.
        trust_code: whether a `python:` factory may be imported.
        code: folder where the factory's module is looked for first.

    Raises:
        SpecError: the weights are missing, or weights or code are others than the corpus was made against; so many threads cannot be
            started here.
    """
    # Thread counts change bits, so the manifest sets them.
    set_threads(manifest.execution.threads)
    named = manifest.victims or {"": manifest.victim}
    wanted = list(dict.fromkeys(each for facts in named.values() for each in facts.hashes))
    plans = [] if weights else generations(workspace.plans)
    if not (weights or plans):
        raise SpecError(f"the victim's weights are missing: {_asked(wanted)}")
    held = dict(zip(wanted, _found(wanted, weights), strict=True)) if weights else {}
    planned, base = (plans[0].spec, Path(plans[0].base)) if plans else (None, Path())
    found: dict[str, VictimSettings] = {}
    for name, facts in named.items():
        said = None if planned is None else planned.victims.get(name, planned.victim)
        found[name] = _settings(facts, held, said, base, code)
    settings, device = next(iter(found.values())), torch.device(device_of(manifest))
    several = found if manifest.victims else {}
    request = VictimRequest(settings, manifest.data.task, base, trust_code, manifest.x_first, several)
    victim = request.load(device, shape, Profile.of(manifest.execution.profile))
    for name, facts in named.items():
        identity = victim.named[name].identity if manifest.victims else victim.identity
        if facts.code_sha256 not in (None, identity.code_sha256):
            raise SpecError(
                f"the code of {facts.network} is other (SHA-256 {identity.code_sha256}) than the corpus was made with "
                f"({facts.code_sha256}): give --code DIR, the folder that holds it"
            )
    return victim


def _settings(facts: VictimFacts, held: Mapping[str, Path], said: VictimSettings | None, base: Path, code: Path | None) -> VictimSettings:
    """A published victim with its files: those in `held`, by their hashes, else those of the maker's plan.  Raises SpecError."""
    settings = {key: getattr(facts, key) for key in VictimSettings.model_fields if key in VictimFacts.model_fields}
    if said is None:
        files = [str(held[each].resolve()) for each in facts.hashes]
        program = facts.program_sha256 == facts.weights_sha256
        settings |= {"network": files[0]} if program else {"weights": files if facts.members else files[0]}
    else:
        settings |= {"network": said.network, "weights": said.weights, "code": said.code}
        for file, expected in zip(said.weight_files or [said.network], facts.hashes, strict=True):
            _hold(base / file, expected)
    if code is not None and facts.network.startswith("python:"):
        settings["code"] = str(code.resolve())
    return VictimSettings(**settings)


def _found(wanted: Sequence[str], given: Sequence[Path]) -> list[Path]:
    """The file of every hash, in order.  Raises SpecError where one is missing, or a file is none of them."""
    if len(wanted) == len(given) == 1:
        _hold(given[0], wanted[0])
        return list(given)
    held: dict[str, Path] = {}
    for path in given:
        if not path.is_file():
            raise SpecError(f"the victim's weights are missing: no file {path}; {_asked(wanted)}")
        held[hash_file(path)] = path
    if other := [path for found, path in held.items() if found not in wanted]:
        raise SpecError(f"{other[0]} holds other weights than the corpus was made against; {_asked(wanted)}")
    if missing := [each for each in wanted if each not in held]:
        raise SpecError(f"weights of the victim are missing: {_asked(missing)}")
    return [held[each] for each in wanted]


def _asked(wanted: Sequence[str]) -> str:
    each = " once for each of" if len(wanted) > 1 else " with SHA-256"
    return f"give --weights FILE{each} {', '.join(wanted)}"


def _hold(path: Path, expected: str) -> None:
    if not path.is_file():
        raise SpecError(f"the victim's weights are missing: no file {path}; {_asked([expected])}")
    found = hash_file(path)
    if found != expected:
        raise SpecError(f"{path} holds other weights (SHA-256 {found}) than the corpus was made against ({expected})")
