#!/usr/bin/env python3
"""Random access to pairs, side by side in one run: reading.py CORPUS [--rounds N] [--volume NIFTI]

Every format holds the same pairs and yields two float32 tensors (C, *spatial). One process, warm page cache, the same random order,
rounds interleaved; the figure is the median over rounds of the time a pair. WebDataset reads tar files in order and shuffles in memory:
it has no random access, and is shown for comparison. webdataset, mosaicml-streaming and litdata are used where they are installed.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import PersistentDataset
from monai.transforms import Lambda

from medadv.common.hashing import canonical_json
from medadv.store.layout import ShardContent
from medadv.store.reader import open_shard, read_content
from medadv.store.writer import write_content
from medadv.training.dataset import CorpusDataset

Read = Callable[[list[int]], None]


def rewritten(corpus: Path, folder: Path, codec: str) -> Path:
    """The corpus with its shards in another codec; enough of it to be read."""
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["execution"]["codec"] = codec
    (folder / "shards").mkdir(parents=True)
    for entry in manifest["shards"]:
        content = read_content(corpus / entry["path"])
        write_content(folder / entry["path"], content, content.arrays["image"].ndim - 2, codec)
    (folder / "manifest.json").write_bytes(canonical_json(manifest))
    return folder


def pair_bytes(corpus: Path, attack: str) -> int:
    """Stored bytes of clean images and one attack's perturbations, whatever else the shards hold."""
    total = 0
    for path in (corpus / "shards").glob("shard-*.h5"):
        with open_shard(path) as file:
            total += sum(file[key].id.get_storage_size() for key in ("image", f"attacks/{attack}/perturbation"))
    return total


def folder_bytes(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def tensors(clean: Any, adversarial: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What training gets."""
    return torch.from_numpy(np.asarray(clean).astype(np.float32)), torch.from_numpy(np.asarray(adversarial).astype(np.float32))


def indexed(dataset: Any, get: Callable[[Any], Any]) -> Read:
    """Random access by index."""

    def read(order: list[int]) -> None:
        for index in order:
            get(dataset[index])

    return read


def formats(corpus: Path, attack: str, work: Path) -> Iterator[tuple[str, Read, int]]:
    """(name, read, bytes) of every format."""
    for codec in ("gzip", "szip", "blosc2", "zstd"):
        made = rewritten(corpus, work / codec, codec)
        dataset = CorpusDataset(made, attack)
        yield f"medadv {codec}", indexed(dataset, lambda item: (item["image"], item["adversarial"])), pair_bytes(made, attack)
    pairs = [(i["image"].numpy(), i["adversarial"].numpy()) for i in CorpusDataset(corpus, attack)]  # type: ignore[attr-defined]
    kind = np.int16 if json.loads((corpus / "manifest.json").read_text())["data"]["unit"] == "hu" else np.uint8
    pairs = [(clean.astype(kind), adversarial.astype(kind)) for clean, adversarial in pairs]
    yield _persistent(pairs, work / "persistent")
    for name, make in (("webdataset", _webdataset), ("streaming", _streaming), ("litdata", _litdata)):
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed, left out")
            continue
        for compressed in (False, True):
            # These write notices of their own to both streams.
            with contextlib.redirect_stdout(io.StringIO()):
                entry = make(pairs, work / f"{name}{compressed}", compressed)
            yield entry


def _persistent(pairs: list[Any], folder: Path) -> tuple[str, Read, int]:
    items = [{"index": index} for index in range(len(pairs))]
    # A Transform, not a bare function: MONAI caches what comes before the first thing that is none.
    load = Lambda(lambda item: tuple(map(torch.from_numpy, pairs[item["index"]])))
    dataset = PersistentDataset(items, load, cache_dir=folder)
    for index in range(len(pairs)):
        dataset[index]
    return "MONAI PersistentDataset", indexed(dataset, lambda pair: tuple(part.float() for part in pair)), folder_bytes(folder)


def _webdataset(pairs: list[Any], folder: Path, compressed: bool) -> tuple[str, Read, int]:
    import webdataset

    folder.mkdir()
    key = "npz" if compressed else "npy"
    with webdataset.TarWriter(str(folder / "pairs.tar")) as sink:
        for index, (clean, adversarial) in enumerate(pairs):
            buffer = io.BytesIO()
            if compressed:
                np.savez_compressed(buffer, clean=clean, adversarial=adversarial)
            else:
                np.save(buffer, np.stack([clean, adversarial]))
            sink.write({"__key__": f"{index:06d}", key: buffer.getvalue()})

    def read(order: list[int]) -> None:
        for item in webdataset.WebDataset(str(folder / "pairs.tar"), shardshuffle=False).shuffle(64):
            loaded = np.load(io.BytesIO(item[key]))
            tensors(*((loaded["clean"], loaded["adversarial"]) if compressed else loaded))

    return f"WebDataset {'npz' if compressed else 'npy'} (in order)", read, folder_bytes(folder)


def _streaming(pairs: list[Any], folder: Path, compressed: bool) -> tuple[str, Read, int]:
    from streaming import MDSWriter, StreamingDataset

    shape = ",".join(map(str, pairs[0][0].shape))
    column = f"ndarray:{pairs[0][0].dtype}:{shape}"
    options = {"compression": "zstd:9"} if compressed else {}
    with MDSWriter(out=str(folder), columns={"clean": column, "adversarial": column}, **options) as out:
        for clean, adversarial in pairs:
            out.write({"clean": clean, "adversarial": adversarial})
    dataset = StreamingDataset(local=str(folder), remote=None, shuffle=False, batch_size=1, keep_zip=False)
    read = indexed(dataset, lambda item: tensors(item["clean"], item["adversarial"]))
    before = folder_bytes(folder)
    read(list(range(len(pairs))))
    return f"mosaicml-streaming{' zstd' if compressed else ''}", read, max(before, folder_bytes(folder))


def _litdata(pairs: list[Any], folder: Path, compressed: bool) -> tuple[str, Read, int]:
    from litdata import StreamingDataset
    from litdata.streaming.cache import Cache

    cache = Cache(str(folder), chunk_size=16, compression="zstd" if compressed else None)
    for index, (clean, adversarial) in enumerate(pairs):
        cache[index] = {"clean": torch.from_numpy(clean), "adversarial": torch.from_numpy(adversarial)}
    cache.done()
    cache.merge(1)
    dataset = StreamingDataset(str(folder), shuffle=False)
    read = indexed(dataset, lambda item: (item["clean"].float(), item["adversarial"].float()))
    read(list(range(len(pairs))))
    return f"litdata{' zstd' if compressed else ''}", read, folder_bytes(folder)


def compare(corpus: Path, rounds: int, work: Path) -> None:
    """Print a table of random-access times."""
    attack = next(iter(json.loads((corpus / "manifest.json").read_text())["attacks"]))
    count = len(CorpusDataset(corpus, attack))
    entrants: list[tuple[str, Read, int]] = []
    maker = formats(corpus, attack, work)
    for entrant in maker:
        entrants.append(entrant)
        print(f"  {entrant[0]} written", file=sys.stderr, flush=True)
    times: dict[str, list[float]] = {name: [] for name, _, _ in entrants}
    for number in range(rounds + 1):
        order = np.random.default_rng(number).permutation(count).tolist()
        for name, read, _ in entrants:
            start = time.perf_counter()
            read(order)
            if number:  # the first round warms caches
                times[name].append((time.perf_counter() - start) / count)
    base = statistics.median(times["medadv gzip"])
    print(f"{count} pairs, {rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, _, size in entrants:
        median = statistics.median(times[name])
        spread = f"{min(times[name]) * 1e3:.2f} to {max(times[name]) * 1e3:.2f}"
        print(f"{name:28} {size / count / 1024:8.1f} KiB a pair  {median * 1e3:7.2f} ms ({spread}) {base / median:5.2f}x medadv gzip")


def patches(corpus: Path, path: Path, rounds: int, work: Path) -> None:
    """Print how much faster a 64-voxel cube is read than its 512 x 512 x 200 volume."""
    import nibabel

    source = np.asarray(nibabel.load(path).dataobj).astype(np.int16)  # type: ignore[attr-defined]
    repeats = [-(-wanted // have) for wanted, have in zip((512, 512, 200), source.shape, strict=True)]
    volume = np.clip(np.tile(source, repeats)[:512, :512, :200], -1024, 3071)
    delta = np.random.default_rng(0).choice(np.array([-4, -2, 0, 2, 4], np.int8), volume.shape)
    (work / "shards").mkdir()
    arrays = {
        "image": volume[None, None],
        "attacks/a/perturbation": delta[None, None],
        "label": np.zeros((1, *volume.shape), np.uint8),
        "sample_id": np.array(["v"], "S"),
        "group_id": np.array(["g"], "S"),
        "attacks/a/success": np.ones(1, np.uint8),
    }
    write_content(work / "shards/shard-00000.h5", ShardContent({"/": {"spatial_axes": "xyz"}}, arrays), 3)
    # All but the shard and the attack is the corpus's; nothing but those is read here.
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["shards"] = [{**manifest["shards"][0], "path": "shards/shard-00000.h5", "samples": 1}]
    manifest |= {"attacks": {"a": {"attack": "pgd", "epsilon": 4}}, "execution": {**manifest["execution"], "codec": "gzip"}}
    (work / "manifest.json").write_text(json.dumps(manifest))
    whole, cube = CorpusDataset(work), CorpusDataset(work, patch=(64, 64, 64))
    seconds: dict[str, list[float]] = {"whole": [], "cube": []}
    for number in range(rounds):
        cube.set_epoch(number)
        for name, dataset in (("cube", cube), ("whole", whole)):
            if name == "whole" and number >= 3:
                continue
            start = time.perf_counter()
            dataset[0]
            seconds[name].append(time.perf_counter() - start)
    one, other = (statistics.median(seconds[name]) for name in ("whole", "cube"))
    print(f"512x512x200 pair: whole {one:.2f} s, 64x64x64 patch {other * 1e3:.1f} ms: {one / other:.0f} times faster")


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--volume", type=Path, help="a CT volume as NIfTI, tiled to 512 x 512 x 200")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments.corpus, arguments.rounds, Path(folder))
    if arguments.volume is not None:
        with tempfile.TemporaryDirectory() as folder:
            patches(arguments.corpus, arguments.volume, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
