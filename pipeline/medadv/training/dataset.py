"""What training code imports: a corpus as a map-style dataset of MONAI dictionaries."""

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch.utils.data import Dataset

from medadv.common.errors import IntegrityError
from medadv.common.hashing import hash_file, seed_of
from medadv.corpus.folder import Workspace, corpus_folder
from medadv.corpus.manifest import read_manifest
from medadv.datasets.labels import Array, Boxes
from medadv.store.codecs import require_codec
from medadv.store.patches import Window, crop_boxes, moved_affine, read_label, read_window
from medadv.store.reader import adversarial_image
from medadv.training.held import HeldShards

Mode = Literal["pair", "clean", "adversarial", "mixed"]
Schedule = Callable[[int], float]


class CorpusDataset(Dataset[dict[str, Any]]):
    """Clean and adversarial samples, read from the shards on demand.

    Each item is a dictionary: `image` (C, *spatial) float32 in stored units (MetaTensor with `affine` in its meta where the corpus has
    geometry), `label` (int64 scalar, vector or mask; for detection `boxes` (m, 4) float32 and `classes` (m,) int64 instead), and, as keys
    of their own, `sample_id`, `group_id`, `attack` (str), `affine` (4, 4) float64 or absent, and `success` (bool, of the stored example).
    By mode:

    - pair: `image` is clean, `adversarial` beside it.
    - clean: `image` is clean.
    - adversarial: `image` is the adversarial example.
    - mixed: `image` is adversarial with `probability`, clean otherwise; `is_adversarial` (bool) says which.

    What is drawn (attack, mixture, patch) follows from seed, epoch and sample alone, not from workers or their number. Call `set_epoch`
    before each epoch; it reaches persistent workers too. Files are opened per process, so workers of a DataLoader, forked or spawned,
    never share a handle. The folder is fixed when the data set is made, and so is what lies in it: reading raises IntegrityError once the
    corpus was made anew there, while one that grew is read on.
    """

    def __init__(
        self,
        corpus: str | Path,
        attack: str | Sequence[str] | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        *,
        mode: Mode = "pair",
        probability: float = 0.5,
        epsilon: float | Schedule | None = None,
        patch: Sequence[int] | None = None,
        weights: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            corpus: folder that holds manifest.json.
            attack: whose examples to read; of several, one is drawn for each item. The corpus's first when None.
            transform: applied to each dictionary, such as a MONAI Compose.
            mode: what an item holds, see above.
            probability: of an adversarial image in mode mixed.
            epsilon: bound in stored units that perturbations are scaled down to, or a function of the epoch (a curriculum). The stored
                perturbation times epsilon / its own epsilon, rounded to the lattice, is an approximation: an attack with the smaller
                bound would have found another, as a rule stronger one.
            patch: spatial size of a random patch; only the chunks that it touches are read.
            weights: file of the model in training; warns when the corpus was made for other weights.
            seed: of all draws.

        Raises:
            IntegrityError: no readable manifest.
            SpecError: the corpus needs hdf5plugin.
            ValueError: no such attack or mode, or settings out of range.
        """
        self.root = corpus_folder(corpus)
        try:
            self.manifest = read_manifest(Workspace(self.root))
        except IntegrityError:
            raise IntegrityError(f"{self.root}: no readable manifest.json; not a corpus, or its run is not finished") from None
        require_codec(self.manifest.execution.codec)
        known = list(self.manifest.attacks)
        self.attacks = known[:1] if attack is None else [attack] if isinstance(attack, str) else list(attack)
        if unknown := [name for name in self.attacks if name not in known]:
            raise ValueError(f"attack {unknown[0]!r} is not in this corpus; there are {', '.join(known)}")
        if mode not in ("pair", "clean", "adversarial", "mixed"):
            raise ValueError(f"mode={mode!r} must be pair, clean, adversarial or mixed")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability} must lie between 0 and 1")
        self.mode, self.probability, self.epsilon, self.seed = mode, probability, epsilon, seed
        self.patch = None if patch is None else tuple(int(length) for length in patch)
        self.transform = transform
        self.shards = HeldShards(self.root, self.manifest)
        self.paths, self.ends = self.shards.paths, self.shards.ends
        # In shared memory, so that workers that live on see the next epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        if weights is not None:
            self._warn_of_other_weights(Path(weights))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Any:
        path, place = self.locate(index)
        item = self._read(path, place, index % len(self))
        return item if self.transform is None else self.transform(item)

    @property
    def epoch(self) -> int:
        """The epoch that draws follow."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew, and move the curriculum on."""
        self._epoch.fill_(epoch)

    def locate(self, index: int) -> tuple[Path, int]:
        """Shard file and row of a sample."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        index %= len(self)
        shard = bisect_right(self.ends, index)
        return self.paths[shard], index - (self.ends[shard - 1] if shard else 0)

    def _read(self, path: Path, place: int, index: int) -> dict[str, Any]:
        file = self.shards.open(path)
        draw = np.random.default_rng(seed_of("dataset", self.seed, self.epoch, index))
        attack = self.attacks[int(draw.integers(len(self.attacks)))]
        adversarial = self.mode in ("pair", "adversarial") or (self.mode == "mixed" and draw.random() < self.probability)
        window = Window.drawn(file["image"].shape[2:], self.patch, draw)
        image = read_window(file["image"], place, window)
        affine = moved_affine(np.asarray(file["affine"][place]), window) if "affine" in file else None
        item: dict[str, Any] = {
            "image": _tensor(image, affine),
            "sample_id": bytes(file["sample_id"][place]).decode(),
            "group_id": bytes(file["group_id"][place]).decode(),
            "attack": attack,
            "success": bool(file[f"attacks/{attack}/success"][place]),
        }
        if adversarial:
            delta = self._scaled(read_window(file[f"attacks/{attack}/perturbation"], place, window), attack)
            item["adversarial" if self.mode == "pair" else "image"] = _tensor(adversarial_image(image, delta), affine)
        if self.mode == "mixed":
            item["is_adversarial"] = adversarial
        if affine is not None:
            item["affine"] = torch.from_numpy(affine)
        label = read_label(file, place, window)
        if isinstance(label, Boxes):
            label = crop_boxes(label, window, str(file.attrs["spatial_axes"]))
            return {**item, "boxes": torch.from_numpy(label.boxes), "classes": torch.from_numpy(label.classes)}
        return {**item, "label": torch.from_numpy(np.asarray(label, np.int64))}

    def _scaled(self, delta: Array, attack: str) -> Array:
        """The perturbation scaled down to the epoch's bound, on the lattice; never farther from zero than the stored one."""
        if self.epsilon is None:
            return delta
        bound = float(self.manifest.attacks[attack].epsilon)
        wanted = self.epsilon(self.epoch) if callable(self.epsilon) else self.epsilon
        if not 0 <= wanted <= bound:
            raise ValueError(f"epsilon={wanted:g} must lie between 0 and the {bound:g} that {attack} was made with")
        scaled = np.rint(delta * np.float32(wanted / bound if bound else 0.0))
        return np.clip(scaled, -math.floor(wanted), math.floor(wanted)).astype(delta.dtype)

    def _warn_of_other_weights(self, weights: Path) -> None:
        found, made_for = hash_file(weights), self.manifest.victim.weights_sha256
        if found != made_for:
            warnings.warn(
                f"{self.root} was made for weights {made_for[:12]}…, {weights.name} is {found[:12]}…: its examples are transferred, "
                "and weaker against this model; make a corpus against it",
                UserWarning,
                stacklevel=3,
            )


def _tensor(image: Array, affine: Array | None) -> torch.Tensor:
    values = torch.from_numpy(image.astype(np.float32))
    return values if affine is None else MetaTensor(values, affine=torch.from_numpy(affine))


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate for DataLoader: images stacked as plain tensors, every sample's affine kept, ids and boxes as lists.

    torch's default keeps the meta of the first sample alone when it meets MetaTensors, silently; here `affine` is (n, 4, 4).
    """
    batch: dict[str, Any] = {}
    for key in items[0]:
        values = [item[key] for item in items]
        if key in ("boxes", "classes") or not isinstance(values[0], torch.Tensor | bool | int | float):
            batch[key] = values
        elif isinstance(values[0], torch.Tensor):
            batch[key] = torch.stack([v.as_tensor() if isinstance(v, MetaTensor) else v for v in values])
        else:
            batch[key] = torch.tensor(values)
    return batch
