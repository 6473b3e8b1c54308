"""What training code imports: a corpus as a map-style dataset of MONAI dictionaries."""

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch.utils.data import Dataset

from medadv.answers import Boxes
from medadv.errors import IntegrityError
from medadv.store.reader import adversarial_image, open_files, read_answer


class CorpusDataset(Dataset[dict[str, Any]]):
    """Pairs of clean and adversarial samples, read from the shards on demand.

    Each item is a dictionary: `image` and `adversarial` (C, *spatial) float32 in stored units (MetaTensor with `affine` in its meta where
    the corpus has geometry), `label` (int64 scalar, vector or mask; for detection `boxes` (m, 4) float32 and `classes` (m,) int64 instead),
    and, as keys of their own, `sample_id`, `group_id` (str), `affine` (4, 4) float64 or absent, and `success` (bool).

    Files are opened per process, so workers of a DataLoader, forked or spawned, never share a handle.
    """

    def __init__(
        self, corpus: str | Path, attack: str | None = None, transform: Callable[[dict[str, Any]], Any] | None = None
    ) -> None:
        """
        Args:
            corpus: folder that holds manifest.json.
            attack: name of the attack whose examples to read; the corpus's first when None.
            transform: applied to each dictionary, such as a MONAI Compose.

        Raises:
            IntegrityError: no readable manifest.
            ValueError: no such attack.
        """
        self.root = Path(corpus)
        try:
            self.manifest: dict[str, Any] = json.loads((self.root / "manifest.json").read_bytes())
        except (OSError, ValueError):
            raise IntegrityError(f"{self.root}: no readable manifest.json; not a corpus, or its run is not finished") from None
        attacks = list(self.manifest["attacks"])
        self.attack = attacks[0] if attack is None else attack
        if self.attack not in attacks:
            raise ValueError(f"attack {attack!r} is not in this corpus; there are {', '.join(attacks)}")
        self.transform = transform
        self.paths = [self.root / entry["path"] for entry in self.manifest["shards"]]
        self.ends = list(accumulate(int(entry["samples"]) for entry in self.manifest["shards"]))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        index %= len(self)
        shard = bisect_right(self.ends, index)
        item = self._read(self.paths[shard], index - (self.ends[shard - 1] if shard else 0))
        return item if self.transform is None else self.transform(item)

    def _read(self, path: Path, place: int) -> dict[str, Any]:
        file = open_files(path)
        image = np.asarray(file["image"][place])
        delta = np.asarray(file[f"attacks/{self.attack}/perturbation"][place])
        affine = np.asarray(file["affine"][place]) if "affine" in file else None
        item: dict[str, Any] = {
            "image": _tensor(image, affine),
            "adversarial": _tensor(adversarial_image(image, delta), affine),
            "sample_id": bytes(file["sample_id"][place]).decode(),
            "group_id": bytes(file["group_id"][place]).decode(),
            "success": bool(file[f"attacks/{self.attack}/success"][place]),
        }
        if affine is not None:
            item["affine"] = torch.from_numpy(affine)
        label = read_answer(file, "label", place)
        if isinstance(label, Boxes):
            return {**item, "boxes": torch.from_numpy(label.boxes), "classes": torch.from_numpy(label.classes)}
        return {**item, "label": torch.from_numpy(np.asarray(label, np.int64))}


def _tensor(image: Any, affine: Any) -> torch.Tensor:
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
