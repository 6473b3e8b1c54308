"""Is what samples share what the manifest says, and is each given that and nothing else? Without a network library, and without a victim.

That the published perturbation is what the fit gives cannot be checked: its samples are in no corpus.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from medadv.common.hashing import hash_array, hash_file
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest
from medadv.datasets.labels import Array
from medadv.evidence.finding import Finding
from medadv.spec.attack import AttackSettings
from medadv.store.hold import ShardError
from medadv.store.layout import FORMAT, perturbation_dtype
from medadv.store.universal import Universal, read_universal
from medadv_transforms.units import Lattice


def check_shared(root: Path, manifest: Manifest) -> Iterator[Finding]:
    """Every universal perturbation by its file, its hash, its bound and what it says of itself; bytes are `check_files`' affair."""
    wanted = {name for name, settings in manifest.attacks.items() if settings.fit is not None}
    for name in sorted(wanted ^ manifest.universal.keys()):
        yield Finding("manifest.json", f"says nothing of what {name} shares" if name in wanted else f"{name} is no universal attack")
    for name in sorted(wanted & manifest.universal.keys()):
        path = Workspace(root).universal(name)
        where = path.relative_to(root).as_posix()
        if where not in manifest.files:
            yield Finding("manifest.json", f"covers no {where}")
        elif path.is_file() and hash_file(path) == manifest.files[where]:
            try:
                yield from _held(where, read_universal(path), name, manifest)
            except ShardError as error:
                yield Finding(where, str(error).removeprefix(f"{path}: "))


def _held(where: str, found: Universal, name: str, manifest: Manifest) -> Iterator[Finding]:
    settings, said, values = manifest.attacks[name], manifest.universal[name], found.perturbation
    if hash_array(values) != said.perturbation_sha256:
        yield Finding(where, "is not the perturbation that the manifest names")
    if values.dtype != perturbation_dtype(settings.epsilon):
        yield Finding(where, f"is {values.dtype} at epsilon {settings.epsilon:g}")
    if (largest := int(np.abs(values.astype(np.int32)).max(initial=0))) > settings.epsilon:
        yield Finding(where, f"perturbation of {largest} is larger than epsilon {settings.epsilon:g}")
    expected = {"format": FORMAT, "unit": manifest.data.unit, "attack": "universal", "norm": "linf", "epsilon": settings.epsilon}
    for key, value in {**expected, "fitted_samples": said.samples}.items():
        if found.attributes.get(key) != value:
            yield Finding(where, f"attribute {key} is {found.attributes.get(key)!r}, not {value!r}")
    try:
        same = AttackSettings.model_validate_json(str(found.attributes.get("parameters"))) == settings
    except ValueError:
        same = False
    if not same:
        yield Finding(where, f"settings of {name} differ from the manifest's")


def shared_arrays(root: Path, manifest: Manifest) -> dict[str, Array]:
    """What the samples of each universal attack share, (C, *spatial); without what is not as the manifest says, which is told elsewhere."""
    found: dict[str, Array] = {}
    for name, said in manifest.universal.items():
        path = Workspace(root).universal(name)
        try:
            if hash_file(path) == manifest.files.get(path.relative_to(root).as_posix()):
                values = read_universal(path).perturbation
                if hash_array(values) == said.perturbation_sha256:
                    found[name] = values
        except (OSError, ShardError):
            continue
    return found


class Given:
    """Whether a sample's perturbation is the shared one inside its own bounds, piece by piece in C order."""

    def __init__(self, shared: Array, region: Array | None, lattice: Lattice) -> None:
        """shared: (C, *spatial).  region: (*spatial), nonzero where perturbing is allowed."""
        self.shared, self.lattice = shared.reshape(-1), lattice
        self.region = None if region is None else region.reshape(-1) != 0
        self.place, self.same = 0, True

    def add(self, image: Array, delta: Array) -> None:
        """The next piece of the clean image and of its perturbation."""
        end = self.place + image.size
        if end > self.shared.size:
            self.same = False
            return
        clean, part = image.reshape(-1).astype(np.int32), self.shared[self.place : end].astype(np.int32)
        meant = np.clip(part, self.lattice.low - clean, self.lattice.high - clean)
        if self.region is not None:
            meant *= self.region[np.arange(self.place, end) % self.region.size]
        self.same &= bool((meant == delta.reshape(-1)).all())
        self.place = end


def given(shared: Mapping[str, Array], shape: tuple[int, ...], region: Array | None, lattice: Lattice) -> dict[str, Given]:
    """By the name of its array in a shard, for the perturbations of one sample of that shape (C, *spatial)."""
    return {f"attacks/{name}/perturbation": Given(one, region, lattice) for name, one in shared.items() if one.shape == shape}
