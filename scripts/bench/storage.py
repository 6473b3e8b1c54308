#!/usr/bin/env python3
"""Bytes of a pair: clean + perturbation as medadv stores them, beside clean + adversarial as two gzip-shuffled arrays.

storage.py CORPUS [CORPUS ...]             measures the samples of finished corpora
storage.py --spec SPEC [--images N] ...    attacks the first N images of a run spec at several epsilons (victim's weights needed)

All layouts have the same chunks and checksums. `plain` is h5py's gzip-1 + shuffle + Fletcher32, `packed` is medadv's own deflate
streams: the second ratio lets the two arrays be packed the same way, so that it shows what storing the difference brings by itself.
`szip` and `blosc2` are pairs of those codecs over two plain arrays.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.spec.attack import AttackSettings
from medadv.spec.reading import load_spec
from medadv.store.codecs import filters, is_packed, write_packed
from medadv.store.layout import chunks_of, perturbation_dtype
from medadv.store.reader import adversarial_image, open_shard
from medadv.victims.loading import VictimRequest
from medadv_transforms.units import LATTICES

EPSILONS = (1, 2, 4, 8, 16)


def stored_bytes(name: str, values: Any, codec: str = "gzip", *, pack: bool = True) -> int:
    """Bytes of the chunks of an array on the image grid."""
    with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder) / "x.h5", "w", libver=("v110", "v110")) as file:
        options = filters(name, values.dtype, chunks_of(name, values.shape, values.ndim - 2), codec)
        dataset = file.create_dataset(name, values.shape, values.dtype, **options)
        if pack and is_packed(name, dataset):
            write_packed(dataset, 0, values)
        else:
            dataset[...] = values
        file.flush()
        return int(dataset.id.get_storage_size())


def measure(title: str, epsilon: float, images: Any, delta: Any) -> None:
    """Print one line."""
    adversarial = adversarial_image(images, delta)
    pair = {c: stored_bytes("image", images, c) + stored_bytes("a/perturbation", delta, c) for c in ("gzip", "szip", "blosc2")}
    plain, packed = (stored_bytes("image", images, pack=p) + stored_bytes("image", adversarial, pack=p) for p in (False, True))
    print(
        f"{title:28} epsilon {epsilon:4g}  {len(images):3d} pairs of {'x'.join(map(str, images.shape[1:]))} "
        f"{pair['gzip'] / len(images) / 1024:6.1f} KiB a pair {pair['gzip'] / plain:.3f} of two plain arrays, {pair['gzip'] / packed:.3f} "
        f"of two packed; szip {pair['szip'] / plain:.3f}; blosc2 {pair['blosc2'] / plain:.3f}",
        flush=True,
    )


def from_corpus(corpus: Path) -> Iterator[tuple[str, float, Any, Any]]:
    """Every attack of a corpus, over all its shards of one shape."""
    for path in sorted((corpus / "shards").glob("shard-*.h5"))[:4]:
        with open_shard(path) as file:
            images = file["image"][...]
            for name, group in file["attacks"].items():
                yield f"{corpus.name}/{path.stem}/{name}", float(group.attrs["epsilon"]), images, group["perturbation"][...]


def from_spec(path: Path, count: int, epsilons: tuple[int, ...]) -> Iterator[tuple[str, float, Any, Any]]:
    """PGD at several epsilons on a spec's first images."""
    spec = load_spec(path)
    listing = list_samples(spec.data, path.parent)
    reader = Reader(listing.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    sources = [part for source in listing.sources[:count] for part in reader.expand(source)][:count]
    samples = [reader.read(source) for source in sources]
    images = np.stack([sample.image for sample in samples])
    device = torch.device("cpu")
    victim = VictimRequest(spec.victim, spec.data.task, path.parent).load(device, images.shape[1:]).scored
    labels = [victim.as_label(sample.label) for sample in samples]
    from medadv.attacks.engine import perturb

    for epsilon in epsilons:
        settings = AttackSettings(attack="pgd", epsilon=epsilon, step=max(1, epsilon // 4), steps=10)
        found = perturb(
            victim,
            torch.from_numpy(images).float(),
            victim.targets(labels, device),
            settings,
            lattice=LATTICES[samples[0].unit],
            seeds=list(range(len(samples))),
        )
        yield spec.name, epsilon, images, found.numpy().astype(perturbation_dtype(epsilon))


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", type=Path)
    parser.add_argument("--spec", action="append", type=Path, default=[])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--epsilon", action="append", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for corpus in arguments.corpora:
        for row in from_corpus(corpus):
            measure(*row)
    for spec in arguments.spec:
        for row in from_spec(spec, arguments.images, tuple(arguments.epsilon or EPSILONS)):
            measure(*row)


if __name__ == "__main__":
    main()
