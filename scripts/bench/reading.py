#!/usr/bin/env python3
"""Random access to pairs, side by side in one run: reading.py CORPUS [--rounds N] [--write]

Every format holds the same pairs and yields two float32 tensors (C, *spatial). One process and thread, warm page cache, the same random
order, formats in turn every few pairs. Figures are medians over rounds of processor time, which on an idle machine is the time that passes
and which other programs lengthen less, and of each round's ratio to MONAI's PersistentDataset. The floor copies a pair's uncompressed
bytes from the page cache and turns them into the two tensors, with nothing looked up or checked. --write puts the table into READING.md.
WebDataset reads tar files in order and shuffles in memory:
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

from medadv.common.hashing import canonical_json, hash_file
from medadv.store.reader import open_shard, read_content
from medadv.store.writer import write_content
from medadv.training.dataset import CorpusDataset, Verify

Read = Callable[[list[int]], None]
PAGE = Path(__file__).with_name("READING.md")
BEGIN, END = "<!-- written by reading.py --write -->", "<!-- until here -->"
PERSISTENT = "MONAI PersistentDataset"
TURN = 9
"""Pairs that one format reads before it is the next one's turn."""


def rewritten(corpus: Path, folder: Path, codec: str) -> Path:
    """The corpus with its shards in another codec; enough of it to be read."""
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["execution"]["codec"] = codec
    (folder / "shards").mkdir(parents=True)
    for entry in manifest["shards"]:
        content = read_content(corpus / entry["path"])
        path = folder / entry["path"]
        write_content(path, content, content.arrays["image"].ndim - 2, codec)
        entry |= {"bytes": path.stat().st_size, "sha256": hash_file(path)}
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
    for codec in ("gzip", "szip", "blosc2", "zstd", "lz4", "none"):
        made = rewritten(corpus, work / codec, codec)
        checks: tuple[Verify, ...] = ("chunks", "files") if codec in ("lz4", "none") else ("chunks",)
        for verify in checks:
            dataset = CorpusDataset(made, attack, verify=verify)
            name = f"medadv {codec}{', verify=files' if verify == 'files' else ''}"
            yield name, indexed(dataset, lambda item: (item["image"], item["adversarial"])), pair_bytes(made, attack)
    pairs = [(i["image"].numpy(), i["adversarial"].numpy()) for i in CorpusDataset(corpus, attack)]  # type: ignore[attr-defined]
    kind = np.int16 if json.loads((corpus / "manifest.json").read_text())["data"]["unit"] == "hu" else np.uint8
    pairs = [(clean.astype(kind), adversarial.astype(kind)) for clean, adversarial in pairs]
    yield _persistent(pairs, work / "persistent")
    yield _floor(pairs, work / "pairs.raw")
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
    return PERSISTENT, indexed(dataset, lambda pair: tuple(part.float() for part in pair)), folder_bytes(folder)


def _floor(pairs: list[Any], path: Path) -> tuple[str, Read, int]:
    path.write_bytes(b"".join(part.tobytes() for pair in pairs for part in pair))
    clean = pairs[0][0]
    size, file = clean.nbytes, os.open(path, os.O_RDONLY)

    def read(order: list[int]) -> None:
        for index in order:
            data = os.pread(file, 2 * size, 2 * size * index)
            both = np.frombuffer(data, clean.dtype).reshape(2, *clean.shape)
            tensors(both[0], both[1])

    return "floor: page cache to float32", read, path.stat().st_size


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


def compare(corpus: Path, rounds: int, work: Path) -> str:
    """Random-access times as a table in Markdown."""
    attack = next(iter(json.loads((corpus / "manifest.json").read_text())["attacks"]))
    entrants: list[tuple[str, Read, int]] = []
    for entrant in formats(corpus, attack, work):
        entrants.append(entrant)
        print(f"  {entrant[0]} written", file=sys.stderr, flush=True)
    dataset = CorpusDataset(corpus, attack)
    count = len(dataset)
    times: dict[str, list[float]] = {name: [] for name, _, _ in entrants}
    for number in range(rounds + 1):
        spent = _round(entrants, np.random.default_rng(number).permutation(count).tolist())
        if number:  # the first round warms caches
            for name, seconds in spent.items():
                times[name].append(seconds / count)
    shape = " x ".join(map(str, dataset[0]["image"].shape))
    rows = [
        f"{count} pairs of {shape}, {rounds} rounds, one of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; range of the rounds in "
        "brackets.",
        "",
        f"| format | KiB a pair | ms a pair | times {PERSISTENT} |",
        "|---|---|---|---|",
    ]
    for name, _, size in entrants:
        ratios = [one / other for one, other in zip(times[name], times[PERSISTENT], strict=True)]
        median, low, high = (each(times[name]) * 1e3 for each in (statistics.median, min, max))
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append(f"| {name} | {size / count / 1024:.1f} | {median:.2f} ({low:.2f} to {high:.2f}) | {ratio} |")
    return "\n".join(rows)


def _round(entrants: list[tuple[str, Read, int]], order: list[int]) -> dict[str, float]:
    """Seconds of processor time in which each format read the order: by turns, but for those that can only be read whole."""
    spent = dict.fromkeys((name for name, _, _ in entrants), 0.0)
    for start in range(0, len(order), TURN):
        for name, read, _ in entrants:
            whole = name.startswith("WebDataset")
            if not whole or start == 0:
                begun = time.process_time()
                read(order if whole else order[start : start + TURN])
                spent[name] += time.process_time() - begun
    return spent


def written(page: str, table: str) -> str:
    """The page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Compare, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="put the table into READING.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        table = compare(arguments.corpus, arguments.rounds, Path(folder))
    print(table)
    if arguments.write:
        PAGE.write_text(written(PAGE.read_text(), table))


if __name__ == "__main__":
    main()
