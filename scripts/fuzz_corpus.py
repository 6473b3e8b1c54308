"""Change a corpus in every way that damage or malice may, and hold every reader against it.

    python scripts/fuzz_corpus.py CORPUS [--cases 2000] [--seed 0] [--first 0] [--keep DIR]

Each case changes a shard, a receipt or the manifest of a copy of CORPUS (small and whole, made by `medadv run`), makes all hashes anew in
half of the cases, and reads the copy with `verify` and with one of report, export, reproduce and CorpusDataset in turn, in a fork of one
warmed process. Every case must end as `refused` (findings, or the project's own exceptions in one line) or `read`. Anything else is a
fault: `error` (another exception), `crash`, `hang` (over 30 s), `outside` (a file beyond the corpus was opened, written or handed on),
`missed` (bytes changed, hashes as they were, and `verify` found nothing). Exit code 1 if there is a fault.
"""

import argparse
import contextlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.random import Generator

from medadv.common.errors import MedadvError
from medadv.common.hashing import canonical_json, hash_bytes, hash_file, hash_value
from medadv.common.progress import SILENT
from medadv.common.record import parse as record
from medadv.corpus.croissant import croissant
from medadv.corpus.manifest import Manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.verify import find_damage
from medadv.export.export import Request, export
from medadv.report.page import write_report
from medadv.store import examine
from medadv.training.dataset import CorpusDataset

FAULTS = ("error", "crash", "hang", "outside", "missed")
SECONDS = 30
"""Of the processor, so that a busy machine hangs nobody; ten times as long on the clock."""
MEMORY = 2 << 30
LOOK_SECONDS = 5.0
"""A shard that HDF5 never gets done with is given up sooner than in earnest, so that thousands of cases end."""
BYTES = ("flip", "zeros", "truncate", "swap", "splice", "append")
EDITS = ("soft", "external", "storage", "virtual", "huge", "type", "drop", "value", "rename", "attribute", "hard", "texts")
VALUES = (None, -1, 0, 1, 10**30, 1.5, float("nan"), "", "x", "../../x", "\x1b[31m", True, [], {}, [None], {"a": 1})
OUTSIDE = b"from outside the corpus"


@dataclass(frozen=True)
class Case:
    """One changed corpus.  resealed: hashes were made anew.  changed: its bytes differ from what they were."""

    file: str
    mutation: str
    resealed: bool
    changed: bool
    reader: str


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "report": lambda corpus, out: write_report(corpus, out / "report.html"),
    "export": lambda corpus, out: export(corpus, Request("png", out / "export", clean=True), SILENT),
    "reproduce": lambda corpus, out: reproduce(corpus, first_sample(corpus)),
    "dataset": lambda corpus, out: [None for _ in CorpusDataset(corpus)],
}


def first_sample(corpus: Path) -> str | None:
    """Some id, as whoever reads the first receipt finds it; None where it tells none."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        return str(json.loads((corpus / "shards" / "shard-00000.json").read_bytes())["records"][0]["id"])
    return None


def change(corpus: Path, outside: Path, seed: int, index: int) -> Case:
    """Change a copy of a corpus in place; the same arguments give the same bytes. outside: a file that no reader may open."""
    rng = np.random.default_rng([seed, index])
    shards = sorted((corpus / "shards").glob("*.h5"))
    kind = str(rng.choice(["shard", "structure", "receipt", "manifest", "bytes"], p=[0.3, 0.25, 0.2, 0.15, 0.1]))
    resealed = bool(rng.random() < 0.5)
    if kind in ("shard", "structure"):
        path = shards[int(rng.integers(len(shards)))]
    elif kind == "receipt":
        path = shards[int(rng.integers(len(shards)))].with_suffix(".json")
    else:
        small = [corpus / name for name in ("manifest.json", "quarantine.jsonl", "croissant.json")]
        path = corpus / "manifest.json" if kind == "manifest" else [p for p in small if p.stat().st_size][int(rng.integers(2))]
    before = path.read_bytes()
    if kind == "structure":
        mutation = _restructure(path, outside, rng)
    elif kind in ("receipt", "manifest") and rng.random() < 0.7:
        mutation = _revalue(path, rng)
    else:
        mutation = _damage(path, rng)
    changed = path.read_bytes() != before
    if resealed:
        reseal(corpus, metadata=path.name != "croissant.json")
    reader = list(READERS)[index % len(READERS)]
    return Case(path.relative_to(corpus).as_posix(), mutation, resealed, changed, reader)


def _damage(path: Path, rng: Generator) -> str:
    data = bytearray(path.read_bytes())
    kind = str(rng.choice(BYTES))
    # Half of the places lie where a file of HDF5 says how it is built, not in compressed values.
    marks = [m for m in (data.find(mark) for mark in (b"GCOL", b"TREE", b"HEAP", b"SNOD", b"OHDR", b"FRHP", b"BTHD", b"FADB")) if m >= 0]
    near = marks and rng.random() < 0.5
    place = marks[int(rng.integers(len(marks)))] + int(rng.integers(64)) if near else int(rng.integers(len(data)))
    length = int(rng.choice([1, 8, 64, 512]))
    if kind == "flip":
        data[min(place, len(data) - 1)] ^= 1 << int(rng.integers(8))
    elif kind == "zeros":
        data[place : place + length] = bytes(len(data[place : place + length]))
    elif kind == "truncate":
        del data[place:]
    elif kind == "append":
        data += rng.bytes(length)
    else:
        other = int(rng.integers(len(data)))
        first, second = bytes(data[place : place + length]), bytes(data[other : other + length])
        if kind == "splice" or len(first) == len(second):
            data[place : place + len(second)] = second[: len(first)]
            if kind == "swap":
                data[other : other + len(first)] = first
    path.write_bytes(data)
    return f"{kind} {place}"


def _restructure(path: Path, outside: Path, rng: Generator) -> str:
    """Through HDF5 itself: what a stranger may put into a shard."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = names[int(rng.integers(len(names)))]
        edit = str(rng.choice(EDITS))
        shape, kind = file[name].shape, file[name].dtype
        if edit == "value":
            where = tuple(int(rng.integers(length)) for length in shape)
            if 0 not in shape:
                file[name][where] = b"../x" if kind.kind == "S" else int(rng.integers(-100, 100)) % 100
        elif edit == "attribute":
            target = file if rng.random() < 0.5 else file[f"attacks/{sorted(file['attacks'])[0]}"]
            key = sorted(target.attrs)[int(rng.integers(len(target.attrs)))]
            target.attrs[key] = [3, -1.0, "{", "x" * 100_000, np.arange(3), "\x1b]0;x\x07"][int(rng.integers(6))]
        elif edit == "hard":
            file["region"] = file[name]
        else:
            del file[name]
            if edit == "soft":
                file[name] = h5py.SoftLink("/image")
            elif edit == "external":
                file[name] = h5py.ExternalLink(str(outside), "/label")
            elif edit == "storage":
                file.create_dataset(name, shape, kind, external=[(str(outside), 0, h5py.h5f.UNLIMITED)])
            elif edit == "virtual":
                layout = h5py.VirtualLayout(shape, kind)
                layout[...] = h5py.VirtualSource(str(outside), "/label", shape)
                file.create_virtual_dataset(name, layout)
            elif edit == "huge":
                file.create_dataset(name, (max(shape[0], 1), 3 << 28, *shape[1:]), kind, chunks=True, compression="gzip")
            elif edit == "type":
                file.create_dataset(name, data=np.zeros(shape, str(rng.choice(["f8", "i8", "u1", "S3", "c8"]))))
            elif edit == "texts":
                file.create_dataset(name, data=["x"] * max(1, shape[0]), dtype=h5py.string_dtype())
            elif edit == "rename":
                file.create_dataset("attacks/../x" if rng.random() < 0.5 else f"{name}\x1b[2J", data=[1])
    return f"{edit} {name}"


def _revalue(path: Path, rng: Generator) -> str:
    """Another value, of any kind, somewhere in a JSON file."""
    whole = json.loads(path.read_bytes())
    place, way = whole, []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[int(rng.integers(len(keys)))]
        way.append(str(key))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.85:
            place = place[key]
            continue
        break
    if rng.random() < 0.15:
        del place[key]
    else:
        value = VALUES[int(rng.integers(len(VALUES)))]
        old = place[key]
        place[key] = old + 1 if isinstance(old, int | float) and rng.random() < 0.3 else value
    path.write_text(json.dumps(whole))
    return ".".join(way)


def reseal(corpus: Path, metadata: bool = True) -> None:
    """Make every hash anew, and croissant.json with `metadata`, as far as the records can still be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        manifest = json.loads((corpus / "manifest.json").read_bytes())
        for entry in manifest["shards"]:
            shard, path = corpus / entry["path"], corpus / entry["path"].replace(".h5", ".json")
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
                receipt = json.loads(path.read_bytes())
                receipt |= {"bytes": shard.stat().st_size, "sha256": hash_file(shard), "extents": {}}
                receipt["content_root"] = hash_value({"arrays": receipt["arrays"], "records": receipt["records"]})
                path.write_bytes(canonical_json(receipt) + b"\n")
                entry["content_root"] = receipt["content_root"]
            entry |= {"bytes": shard.stat().st_size, "sha256": hash_file(shard), "receipt_sha256": hash_file(path)}
        value = ""
        if len(manifest["generations"]) == 1:
            roots = [entry["content_root"] for entry in manifest["shards"]]
            value = hash_value({"before": value, "plan": manifest["generations"][0]["plan"], "shards": roots})
            manifest["content_root"] = value
        if metadata:
            with contextlib.suppress(ValueError):
                (corpus / "croissant.json").write_bytes(croissant(record(Manifest, canonical_json(manifest))))
        manifest["files"] = {name: hash_file(corpus / name) for name in manifest["files"]}
        (corpus / "manifest.json").write_text(json.dumps(manifest))
    data = (corpus / "manifest.json").read_bytes()
    (corpus / "manifest.json.sha256").write_bytes(f"{hash_bytes(data)}  manifest.json\n".encode())


def judge(case: Case, corpus: Path, out: Path) -> tuple[str, str]:
    """Verdict and detail of one case: `verify`, then the case's reader."""
    opened: list[str] = []
    allowed = tuple(os.path.realpath(place) for place in (corpus, out))

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and "outside" in arguments[0] and not arguments[0].startswith(allowed):
            opened.append(arguments[0])

    sys.addaudithook(watch)
    read = []
    for name, reader in (("verify", lambda *_: find_damage(corpus)), (case.reader, READERS[case.reader])):
        try:
            answer = reader(corpus, out)
        except MedadvError as error:
            if "\n" in str(error):
                return "error", f"{name}: more than one line: {error!r}"
            read.append(False)
        except Exception:
            return "error", f"{name}: {traceback.format_exc()}"
        else:
            read.append(name != "verify" or not answer)
            if name == "verify" and not answer and case.changed and not case.resealed:
                return "missed", name
    stray = [path for path in out.parent.iterdir() if path not in (out, corpus) and not path.name.startswith("outside")]
    if opened or stray or _told(out):
        return "outside", str(opened or stray or "its content was handed on")
    return ("read" if all(read) else "refused"), ""


def _told(folder: Path) -> bool:
    """Whether the content of the file outside stands in what was written."""
    return any(OUTSIDE in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def run_cases(corpus: Path, indices: range, seed: int, keep: Path | None = None) -> Iterator[tuple[int, Case, str, str]]:
    """Judge the cases one by one, each in a fork of this process."""
    examine.SECONDS = LOOK_SECONDS
    # Asked once, so that the children find modules and the process that looks at shards warm.
    assert find_damage(corpus) == [], "the corpus to change must be whole"
    for index in indices:
        with tempfile.TemporaryDirectory() as scratch:
            copy, out, outside = Path(scratch, "corpus"), Path(scratch, "out"), Path(scratch, "outside.bin")
            shutil.copytree(corpus, copy)
            out.mkdir()
            outside.write_bytes(OUTSIDE * 4096)
            case = change(copy, outside, seed, index)
            verdict, detail = _in_a_fork(case, copy, out)
            if keep is not None and verdict in FAULTS:
                shutil.copytree(scratch, keep / f"{index}-{verdict}", dirs_exist_ok=True)
            yield index, case, verdict, detail


def _in_a_fork(case: Case, corpus: Path, out: Path) -> tuple[str, str]:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            answer = judge(case, corpus, out)
        except BaseException:
            answer = "error", traceback.format_exc()
        with os.fdopen(theirs, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        os._exit(0)
    os.close(theirs)
    end, data = time.monotonic() + 10 * SECONDS, b""
    with os.fdopen(ours, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "hang", ""
            if not (part := pipe.read(1 << 16)):
                break
            data += part
    _, status = os.waitpid(child, 0)
    if data:
        return tuple(json.loads(data))
    return ("hang" if os.waitstatus_to_exitcode(status) == -signal.SIGXCPU else "crash"), ""


def main() -> int:
    """Run the long form and print a table of verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, help="a small, whole corpus; it is copied")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="copy the corpora of faults there")
    arguments = parser.parse_args()
    start, counts, faults = time.perf_counter(), Counter[tuple[str, str]](), 0
    for index, case, verdict, detail in run_cases(
        arguments.corpus, range(arguments.first, arguments.first + arguments.cases), arguments.seed, arguments.keep
    ):
        counts[case.reader, verdict] += 1
        if verdict in FAULTS:
            faults += 1
            print(index, case, verdict, detail, flush=True)
    for (reader, verdict), count in sorted(counts.items()):
        print(f"{reader:10} {verdict:8} {count:5}")
    print(f"{arguments.cases} cases, {faults} faults, {time.perf_counter() - start:.0f} s, seed {arguments.seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
