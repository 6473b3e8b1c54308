#!/usr/bin/env python3
"""Pairs from elsewhere, side by side in one run: remote.py CORPUS [--rounds N] [--write]

The same pairs lie in a bucket of moto's S3 server and behind a plain server of HTTP, both on loopback, each in a process of its own, as a
corpus and in the formats of litdata and mosaicml-streaming. Each is read in order by one process and one thread, in three ways: local (its
own folder), remote (its cache is empty) and cached (once more). Every pair becomes two float32 tensors (C, *spatial). Figures are
medians over rounds of the time a pair, formats in turn within a round; the floor of each server is the time for the corpus's own bytes,
asked for a whole file at a time and thrown away. medadv checks what it reads: SHA-256 of each shard, its structure in another process,
every chunk.

litdata and mosaicml-streaming read S3 alone. What is missing is installed into an environment of its own, beside that which runs this
(--environment FOLDER). --write puts the table into READING.md.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("READING.md")
BEGIN, END = "<!-- written by remote.py --write -->", "<!-- until here: remote.py -->"
NEEDED = ("aiohttp", "s3fs", "moto", "flask_cors", "litdata", "streaming")
# Without what they ask for: clients of other clouds, whose versions contradict what is pinned here.
ALONE = ["aiobotocore", "aiohappyeyeballs", "aiohttp", "aioitertools", "aiosignal", "blinker", "boto3", "botocore", "flask", "flask-cors"]
ALONE += ["frozenlist", "itsdangerous", "jmespath", "moto", "multidict", "propcache", "py-partiql-parser", "python-dateutil", "responses"]
ALONE += ["s3fs", "s3transfer", "werkzeug", "wrapt", "xmltodict", "yarl", "litdata", "mosaicml-streaming", "lightning-utilities"]
ALONE += ["Brotli", "python-snappy", "cramjam", "zstd", "zstandard", "catalogue", "xxhash", "paramiko"]
BUCKET = "medadv"
Pass = Callable[[], int]
"""Reads all pairs in order; how many there were."""


def install(folder: Path) -> None:
    """Go on in an environment that has what is needed and, behind that, all that this one has."""
    if not (folder / "bin").is_dir():
        venv.create(folder, with_pip=True)
        (site,) = (folder / "lib").glob("python*/site-packages")
        # Added as site folders, so that an editable installation's own .pth is read as well.
        behind = (path for path in sys.path if path.endswith("site-packages"))
        (site / "beside.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in behind))
        constraints = Path(__file__).resolve().parents[2] / "constraints.txt"
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--constraint", str(constraints)]
        subprocess.run([*pip, "--no-deps", *ALONE], check=True)
        subprocess.run([*pip, "transformers"], check=True)
    os.execv(folder / "bin" / "python", [str(folder / "bin" / "python"), *sys.argv])


def tensors(clean: Any, adversarial: Any) -> Any:
    """What training gets."""
    import numpy as np
    import torch

    return tuple(torch.from_numpy(np.asarray(part).astype(np.float32)) for part in (clean, adversarial))


def corpus_pass(place: str, cache: Path) -> int:
    """medadv, from a folder or an address."""
    from medadv.training.dataset import CorpusDataset

    dataset = CorpusDataset(place, cache=cache)
    for index in range(len(dataset)):
        item = dataset[index]
        assert item["image"].shape == item["adversarial"].shape
    return len(dataset)


def litdata_pass(place: str, cache: Path, endpoint: str) -> int:
    """litdata. cache: where it keeps what it fetches."""
    from litdata import StreamingDataset

    options = {"endpoint_url": endpoint} if place.startswith("s3:") else {}
    kept = {"cache_dir": str(cache)} if place.startswith("s3:") else {}
    count = 0
    for item in StreamingDataset(place, shuffle=False, storage_options=options, **kept):
        tensors(item["clean"], item["adversarial"])
        count += 1
    return count


def streaming_pass(place: str, cache: Path) -> int:
    """mosaicml-streaming, which leaves what it fetched in its local folder."""
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    there = {"remote": place, "local": str(cache)} if place.startswith("s3:") else {"remote": None, "local": place}
    dataset, count = StreamingDataset(**there, shuffle=False, batch_size=1), 0
    for item in dataset:
        tensors(item["clean"], item["adversarial"])
        count += 1
    return count


def write_litdata(pairs: list[Any], folder: Path) -> None:
    """The pairs as litdata has them, uncompressed."""
    import torch
    from litdata.streaming.cache import Cache

    cache = Cache(str(folder), chunk_size=16)
    for index, (clean, adversarial) in enumerate(pairs):
        cache[index] = {"clean": torch.from_numpy(clean), "adversarial": torch.from_numpy(adversarial)}
    cache.done()
    cache.merge(1)


def write_streaming(pairs: list[Any], folder: Path) -> None:
    """The pairs as mosaicml-streaming has them, uncompressed, in shards of about sixteen."""
    from streaming import MDSWriter

    column = f"ndarray:{pairs[0][0].dtype}:{','.join(map(str, pairs[0][0].shape))}"
    columns = {"clean": column, "adversarial": column}
    with MDSWriter(out=str(folder), columns=columns, size_limit=33 * pairs[0][0].nbytes) as out:
        for clean, adversarial in pairs:
            out.write({"clean": clean, "adversarial": adversarial})


@contextlib.contextmanager
def process(*command: str, until: str) -> Iterator[None]:
    """A server as a process of its own, from when it answers."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(until, timeout=1).close()
                    break
                time.sleep(0.1)
            yield
        finally:
            running.terminate()


def floor(addresses: list[str]) -> int:
    """Whole files, thrown away."""
    for address in addresses:
        with urllib.request.urlopen(address) as answer:
            while answer.read(1 << 20):
                pass
    return 0


def files(folder: Path) -> list[Path]:
    """All of a folder but what its maker alone sees."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and ".medadv" not in path.parts]


def measure(corpus: Path, rounds: int, work: Path, http: str, s3: str) -> list[str]:
    """Lines of the table."""
    import boto3
    import numpy as np

    from medadv.training.dataset import CorpusDataset

    unit = json.loads((corpus / "manifest.json").read_text())["data"]["unit"]
    kind = np.int16 if unit == "hu" else np.uint8
    dataset = CorpusDataset(corpus)
    pairs = [tuple(dataset[i][key].numpy().astype(kind) for key in ("image", "adversarial")) for i in range(len(dataset))]
    write_litdata(pairs, work / "litdata")
    write_streaming(pairs, work / "streaming")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
    sizes = {}
    for name, folder in (("medadv", corpus), ("litdata", work / "litdata"), ("streaming", work / "streaming")):
        sizes[name] = sum(path.stat().st_size for path in files(folder))
        for path in files(folder):
            key = f"{name}/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes(), ACL="public-read")
    shards = [path.relative_to(corpus).as_posix() for path in sorted((corpus / "shards").glob("*.h5"))]
    lit, mds = partial(litdata_pass, endpoint=s3), streaming_pass
    entrants: dict[str, tuple[Callable[..., int], str]] = {
        "medadv, local": (corpus_pass, str(corpus)),
        "medadv, HTTP": (corpus_pass, f"{http}/manifest.json"),
        "medadv, S3": (corpus_pass, f"s3://{BUCKET}/medadv"),
        "litdata, local": (lit, str(work / "litdata")),
        "litdata, S3": (lit, f"s3://{BUCKET}/litdata"),
        "mosaicml-streaming, local": (mds, str(work / "streaming")),
        "mosaicml-streaming, S3": (mds, f"s3://{BUCKET}/streaming"),
    }
    floors: dict[str, Pass] = {
        "floor, HTTP": partial(floor, [f"{http}/{name}" for name in shards]),
        "floor, S3": partial(floor, [f"{s3}/{BUCKET}/medadv/{name}" for name in shards]),
    }
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for name, (read, place) in entrants.items():
            cache = work / "cache" / name.replace(" ", "")
            shutil.rmtree(cache, ignore_errors=True)
            ways = ("local",) if name.endswith("local") else ("remote", "cached")
            for way in ways:
                took = timed(partial(read, place, cache), len(pairs))
                if number:  # the first round imports, and warms the page cache
                    times.setdefault((name, way), []).append(took)
        for name, ask in floors.items():
            took = timed(ask, 0)
            if number:
                times.setdefault((name, "remote"), []).append(took)
    return table({key: [one / len(pairs) * 1e3 for one in found] for key, found in times.items()}, sizes, len(pairs), rounds)


def timed(read: Pass, count: int) -> float:
    """Seconds. AssertionError where it read others than so many pairs."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        found = read()
        took = time.perf_counter() - start
    assert found == count, (found, count)
    return took


def table(times: dict[tuple[str, str], list[float]], sizes: dict[str, int], count: int, rounds: int) -> list[str]:
    """Markdown."""
    lines = [
        f"{count} pairs, {rounds} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}: milliseconds a pair, median (lowest).",
        "",
        "| format | KiB a pair | local | remote, nothing cached | cached |",
        "|---|---|---|---|---|",
    ]

    def cell(name: str, way: str) -> str:
        found = times.get((name, way))
        return f"{statistics.median(found):.2f} ({min(found):.2f})" if found else ""

    for name in dict.fromkeys(name for name, _ in times):
        kind = name.partition(",")[0].removeprefix("mosaicml-")
        size = f"{sizes.get(kind, sizes['medadv']) / count / 1024:.0f}"
        lines.append(f"| {name} | {size} | {cell(name, 'local')} | {cell(name, 'remote')} | {cell(name, 'cached')} |")
    return lines


def main() -> None:
    """Serve, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--environment", type=Path, default=Path(sys.prefix).with_name(".venv-remote"))
    parser.add_argument("--write", action="store_true", help="put the table into READING.md")
    arguments = parser.parse_args()
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        install(arguments.environment.absolute())
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    http, s3 = "http://127.0.0.1:8651", "http://127.0.0.1:8652"
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ENDPOINT_URL": s3, "S3_ENDPOINT_URL": s3}
    corpus = arguments.corpus.absolute()
    serve = [sys.executable, "-m", "http.server", "8651", "--bind", "127.0.0.1", "--directory", str(corpus), "--protocol", "HTTP/1.1"]
    with (
        tempfile.TemporaryDirectory() as folder,
        process(*serve, until=f"{http}/manifest.json"),
        process(sys.executable, "-m", "moto.server", "-p", "8652", until=s3),
    ):
        lines = "\n".join(measure(corpus, arguments.rounds, Path(folder), http, s3))
    print(lines)
    if arguments.write:
        text = PAGE.read_text()
        head, _, rest = text.partition(f"{BEGIN}\n")
        PAGE.write_text(f"{head}{BEGIN}\n{lines}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
