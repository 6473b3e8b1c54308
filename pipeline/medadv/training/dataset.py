"""What training code imports: a corpus as a map-style dataset of MONAI dictionaries."""

import math
import operator
import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from medadv.common.hashing import seed_of
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import reading
from medadv.datasets.labels import Array, Boxes
from medadv.store.patches import Window, crop_boxes, moved_affine, read_window
from medadv.store.reader import adversarial_image
from medadv.store.rows import Rows
from medadv.training.augmentation import WORD, derived, seeded
from medadv.training.boxes import OwnLength
from medadv.training.collate import with_own_affine
from medadv.training.epoch import SharedEpoch
from medadv.training.images import label_of, tensor_of
from medadv.training.location import Opening
from medadv.training.parts import CorpusPart, open_parts, warn_of_other_weights

Mode = Literal["pair", "clean", "adversarial", "mixed"]
Verify = Literal["chunks", "files"]
Schedule = Callable[[int], float]
ROUNDING = 1e-6
"""Far below a level, far above what sums of fractions are off by."""


class CorpusDataset(Dataset[dict[str, Any]]):
    """Clean and adversarial samples of one corpus, or of several (generations) end to end, read from the shards on demand.

    Each item is a dictionary: `image` (C, *spatial) float32 in stored units, `label`, and, as keys of their own, `sample_id`, `group_id`,
    `attack` (str), `success` (bool, of the stored example) and `corpus` (int, its place among the folders given). The label is an int64
    scalar, a vector (K,), or a mask (1, *spatial), of several classes with a mask each (K, *spatial). For detection there are `boxes`
    (m, 2 * dims) float32, x first, and `classes` (m,) int64 from 1 instead, with `spatial_axes` (str), the order of the image's axes, for
    `BoxesToTensorAxesd`. Where the corpus has geometry, images and masks are MetaTensors with their affine, and `affine` (4, 4) float64 is
    the image's own after the transforms. By mode:

    - pair: `image` is clean, `adversarial` beside it.
    - clean: `image` is clean.
    - adversarial: `image` is the adversarial example.
    - mixed: `image` is adversarial with `probability`, clean otherwise; `is_adversarial` (bool) says which.

    Of several corpora every stored example is an item, so that a sample that is in three of them comes three times an epoch, its clean
    image too. With `CorpusSampler` it comes once, from the corpus that is drawn for it.

    Call `set_epoch` before each epoch; it reaches persistent workers too. What is drawn (attack, mixture, patch) follows from seed, epoch,
    sample and the place of its corpus alone, not from workers or their number, and so does what `transform` draws: from MONAI's
    Randomizables and from generators of NumPy, torch and `random` that it holds (inside Compose, OneOf and the like, as attributes, in
    partials and closures), and from the global ones (torchvision, functions of one's own), which are put back afterwards. Out of reach, and
    for `seed_hook` to seed: generators of other libraries, and those that a function finds by a global name. Threads beside others
    (ThreadDataLoader) share transforms and global generators, so that there only what each transform holds is seeded, and with several of
    them nothing can be repeated.

    Before the first `set_epoch`, attack, mixture and patch stay at epoch 0 in every epoch, while augmentation is drawn anew from torch's
    generator in the process that reads. Files are opened per process, so workers of a DataLoader, forked or spawned, never share a handle.
    The folder is fixed when the data set is made, and so is what lies in it: reading raises IntegrityError once the corpus was made anew
    there, while one that grew is read on.
    """

    def __init__(
        self,
        corpus: str | Path | Sequence[str | Path],
        attack: str | Sequence[str] | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        *,
        mode: Mode = "pair",
        probability: float = 0.5,
        epsilon: float | Schedule | None = None,
        patch: Sequence[int] | None = None,
        weights: str | Path | None = None,
        seed: int = 0,
        seed_hook: Callable[[int], object] | None = None,
        verify: Verify = "chunks",
        check: bool = True,
        links: bool = False,
        cache: str | Path | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        """
        Args:
            corpus: folder that holds manifest.json, or that file; or the address of either (https://, s3://, gs://, and what else fsspec
                knows), whose shards are fetched when they are read; or a sequence of them, of one task, modality, classes and spatial axes.
            attack: whose examples to read, there in each corpus; of several, one is drawn for each item. Each corpus's first when None,
                and where it has several victims the first against each; one on the mean of their losses, once, where a victim has no other.
            transform: applied to each dictionary, such as a MONAI Compose.
            mode: what an item holds, see above.
            probability: of an adversarial image in mode mixed.
            epsilon: bound in stored units that perturbations are scaled down to, or a function of the epoch (a curriculum); those of an
                attack with a smaller one stay as they are. The stored perturbation times epsilon / its own epsilon, rounded to the
                lattice, is an approximation: an attack with the smaller bound would have found another, as a rule stronger one.
            patch: spatial size of a random patch; only the chunks that it touches are read.
            weights: file of the model in training; warns when no corpus was made for these weights.
            seed: of all draws.
            seed_hook: called before each transform with a seed, 0 to 2**32 - 1, for generators that cannot be reached from `transform`.
            verify: chunks holds every chunk that is read against its checksum, every time. files holds each file's SHA-256 against the
                manifest before a process first reads it (workers trust what their parent held so), and again once the file changes: then
                chunks of `codec: none` and `lz4` are read unchecked, which is faster, and finds no bit that turns on the disk afterwards.
            check: have another process open every shard first, some milliseconds each, since a damaged one may hang or crash HDF5; shards
                that are fetched later are opened so when they are first read. False for a corpus that is known to be whole.
            links: follow files of the corpus that are symbolic links (git-annex, DVC, a hub's cache).
            cache: folder for what is fetched from an address, which all processes share; that of MEDADV_CACHE, or medadv in the user's
                cache, when None.
            cache_bytes: of all corpora in it together; 50 GiB when None. What is open is never removed, one shard a process.

        Raises:
            IntegrityError: no readable manifest, a link without `links`, a file that is no shard of this corpus, or other bytes at an
                address than its manifest says.
            FetchError: an address cannot be reached, and what is asked for was not fetched before.
            SpecError: the corpus needs hdf5plugin, the address a package that is not there, or the cache cannot be used.
            ValueError: no such attack or mode, settings out of range, or two corpora of different kinds.
        """
        folders = [corpus] if isinstance(corpus, str | Path) else list(corpus)
        attacks = [attack] if isinstance(attack, str) else attack
        how = Opening(links, check, verify == "files", cache, cache_bytes)
        self.parts = open_parts(folders, attacks, how)
        if mode not in ("pair", "clean", "adversarial", "mixed"):
            raise ValueError(f"mode={mode!r} must be pair, clean, adversarial or mixed")
        if verify not in ("chunks", "files"):
            raise ValueError(f"verify={verify!r} must be chunks or files")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability} must lie between 0 and 1")
        self.mode, self.probability, self.epsilon, self.seed = mode, probability, epsilon, seed
        self.patch = None if patch is None else _lengths(patch)
        self.verify = verify
        self.transform, self.seed_hook = transform, seed_hook
        self.starts = list(accumulate((len(part.shards) for part in self.parts), initial=0))
        self._epoch = SharedEpoch()
        self._made_in = os.getpid(), threading.get_ident()
        self._drawn = 0
        if epsilon is not None and not callable(epsilon):
            self._bound(epsilon)
        if weights is not None:
            warn_of_other_weights(self.parts, Path(weights))

    def __len__(self) -> int:
        # Loaders of a rank ask for it before they start workers.
        self._epoch.own()
        return self.starts[-1]

    def __getitem__(self, index: Any) -> Any:
        """One sample; for a slice or a sequence of indices a Subset, as MONAI's data sets have it."""
        if isinstance(index, slice):
            return Subset(self, range(*index.indices(len(self))))
        if isinstance(index, Sequence) or np.ndim(index):
            return Subset(self, [self._place(part) for part in index])
        place = self._place(index)
        number, part, own = self._part_at(place)
        shard, row = part.shards.locate(own)
        with reading(shard, OSError, KeyError):
            item = self._read(part, shard, row, self._seed("dataset", number, own))
        item["corpus"] = number
        return item if self.transform is None else self._transformed(item, number, own)

    @property
    def epoch(self) -> int:
        """The epoch that draws follow; 0 before the first `set_epoch`."""
        return max(0, self._epoch.value)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew, and move the curriculum on, in this process and the workers of its loaders.

        Raises ValueError: an epoch below 0, or a curriculum that gives a bound beyond that of every attack.
        """
        if epoch < 0:
            raise ValueError(f"epoch={epoch} must be 0 or more")
        if callable(self.epsilon):
            self._bound(self.epsilon(epoch))
        self._epoch.set(epoch)

    @property
    def root(self) -> Path:
        """The folder of the corpus, of several the first."""
        return self.parts[0].root

    @property
    def manifest(self) -> Manifest:
        """Its record; of several corpora the first one's, with which the others agree in task, modality, unit and classes."""
        return self.parts[0].manifest

    @property
    def attacks(self) -> list[str]:
        """Whose examples are read; the first corpus's own where none was named."""
        return self.parts[0].attacks

    @property
    def paths(self) -> list[Path]:
        """Every shard file in the order of the samples."""
        return [path for part in self.parts for path in part.shards.paths]

    def locate(self, index: int) -> tuple[Path, int]:
        """Shard file and row of a sample."""
        _, part, own = self._part_at(self._place(index))
        return part.shards.locate(own)

    def _bound(self, wanted: float) -> float:
        """A bound to scale down to, held against those of the attacks that are read."""
        most = max(float(part.manifest.attacks[name].epsilon) for part in self.parts for name in part.attacks)
        if not 0 <= wanted <= most:
            names = ", ".join(dict.fromkeys(name for part in self.parts for name in part.attacks))
            raise ValueError(f"epsilon={wanted:g} must lie between 0 and the {most:g} that {names} was made with")
        return wanted

    def _part_at(self, place: int) -> tuple[int, CorpusPart, int]:
        """Number of the corpus that a place lies in, the corpus, and the place in it."""
        number = bisect_right(self.starts, place) - 1
        return number, self.parts[number], place - self.starts[number]

    def _seed(self, purpose: str, number: int, place: int) -> int:
        """Of the draws for one sample of a corpus in this epoch; the first corpus draws what it draws alone."""
        return seed_of(purpose, self.seed, self.epoch, place, *([number] if number else []))

    def _place(self, index: Any) -> int:
        """An index as a plain number from 0; those of NumPy and torch are understood."""
        if isinstance(index, bool) or str(getattr(index, "dtype", "")) in ("bool", "torch.bool"):
            raise TypeError(f"{index} is no index: of a mask of samples, np.flatnonzero gives the indices")
        try:
            place = operator.index(index)
        except TypeError:
            raise TypeError(f"index {index!r} of type {type(index).__name__} is no whole number") from None
        count = self.starts[-1]
        if not -count <= place < count:
            raise IndexError(f"index {place} of {count} samples")
        return place % count

    def _transformed(self, item: dict[str, Any], number: int, place: int) -> Any:
        """The transform's answer, drawn from this sample's own seed."""
        assert self.transform is not None
        if self._epoch.value < 0:
            # From the process's generator, which goes on in persistent workers; counted, since MONAI's loader winds it back.
            self._drawn += 1
            seed = derived(int(torch.randint((1 << 63) - 1, ())), str(self._drawn))
        else:
            seed = self._seed("augmentation", number, place)
        process, thread = self._made_in
        alone = threading.get_ident() in (thread, threading.main_thread().ident)
        with seeded(self.transform, seed, process=os.getpid() != process or alone):
            if self.seed_hook is not None:
                self.seed_hook(derived(seed, "hook") % WORD)
            return with_own_affine(self.transform(item))

    def _read(self, part: CorpusPart, path: Path, place: int, seed: int) -> dict[str, Any]:
        rows = part.shards.rows(path)
        draw = np.random.default_rng(seed)
        attack = part.attacks[int(draw.integers(len(part.attacks)))]
        adversarial = self.mode in ("pair", "adversarial") or (self.mode == "mixed" and draw.random() < self.probability)
        window = Window.drawn(rows.array("image").shape[2:], self.patch, draw)
        image = self._grid(rows, "image", place, window)
        affine = moved_affine(np.asarray(rows.value("affine", place)), window) if rows.has("affine") else None
        item: dict[str, Any] = {
            "image": tensor_of(image, affine),
            "sample_id": rows.text("sample_id", place),
            "group_id": rows.text("group_id", place),
            "attack": attack,
            "success": bool(rows.value(f"attacks/{attack}/success", place)),
        }
        if adversarial:
            delta = self._scaled(self._grid(rows, f"attacks/{attack}/perturbation", place, window), part, attack)
            item["adversarial" if self.mode == "pair" else "image"] = tensor_of(adversarial_image(image, delta), affine)
        if self.mode == "mixed":
            item["is_adversarial"] = adversarial
        if affine is not None:
            item["affine"] = torch.from_numpy(affine)
        if getattr(rows.array("label"), "ndim", 0) > len(window.size):
            return {**item, "label": label_of(np.array(self._grid(rows, "label", place, window), np.int64), affine, image.ndim - 1)}
        label = rows.answer("label", place)
        if isinstance(label, Boxes):
            axes = str(rows.file.attrs["spatial_axes"])
            label = crop_boxes(label, window, axes)
            return {**item, "boxes": OwnLength.of(label.boxes), "classes": OwnLength.of(label.classes), "spatial_axes": axes}
        return {**item, "label": label_of(np.asarray(label, np.int64), affine, image.ndim - 1)}

    def _grid(self, rows: Rows, name: str, place: int, window: Window) -> Array:
        """A sample's part of an array on the image grid."""
        if window.whole:
            return rows.whole(name, place, check=self.verify == "chunks")
        return read_window(rows.array(name), place, window)

    def _scaled(self, delta: Array, part: CorpusPart, attack: str) -> Array:
        """The perturbation scaled down to the epoch's bound, on the lattice; never farther from zero than the stored one."""
        if self.epsilon is None:
            return delta
        bound = float(part.manifest.attacks[attack].epsilon)
        wanted = min(bound, self._bound(self.epsilon(self.epoch)) if callable(self.epsilon) else self.epsilon)
        scaled = np.rint(delta * np.float32(wanted / bound if bound else 0.0))
        # A curriculum of fractions may end a rounding error below the level that it means.
        level = math.floor(wanted + ROUNDING)
        return np.clip(scaled, -level, level).astype(delta.dtype)


def _lengths(patch: Sequence[int]) -> tuple[int, ...]:
    """The size of a patch. ValueError where it is none."""
    try:
        found = tuple(operator.index(length) for length in patch)
    except TypeError:
        found = ()
    if len(found) not in (2, 3) or min(found) < 1:
        raise ValueError(f"patch={patch!r} must be a whole number of pixels along each spatial axis, such as (64, 64)")
    return found
