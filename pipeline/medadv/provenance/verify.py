"""Hold a corpus against its manifest and receipts; name what is wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medadv.errors import IntegrityError
from medadv.hashing import hash_array, hash_file
from medadv.provenance.manifest import read_manifest, read_receipt
from medadv.store.reader import adversarial_image, open_shard
from medadv.workspace import Workspace
from medadv_transforms.units import LATTICES


def verify(root: Path, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Every problem found, one line each, empty when the corpus is whole. Hashes first: a damaged file is opened only to say where."""
    workspace = Workspace(root)
    own = root / "manifest.json.sha256"
    if not workspace.manifest.exists():
        raise IntegrityError(f"{root}: no manifest.json; not a corpus, or its first run is not finished")
    problems: list[str] = []
    if not own.exists() or own.read_bytes().split()[:1] != [hash_file(workspace.manifest).encode()]:
        problems.append("manifest.json: does not fit manifest.json.sha256")
    manifest = read_manifest(workspace)
    problems += list(_files(root, manifest))
    seen: set[str] = set()
    for number, entry in enumerate(manifest["shards"]):
        problems += _shard(workspace, entry, manifest, seen)
        if progress is not None:
            progress(number + 1, len(manifest["shards"]))
    if len(seen) != manifest["samples"]:
        problems.append(f"manifest.json: says {manifest['samples']} samples, the shards hold {len(seen)}")
    return problems


def _files(root: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Published files that are missing, changed or not in the manifest."""
    named = {"manifest.json", "manifest.json.sha256", "report.html", *manifest["files"]}
    for entry in manifest["shards"]:
        named |= {entry["path"], str(Path(entry["path"]).with_suffix(".json"))}
    for name, expected in manifest["files"].items():
        if not (root / name).exists() or hash_file(root / name) != expected:
            yield f"{name}: missing or changed"
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and relative.parts[0] != ".medadv" and relative.as_posix() not in named and not _empty(path):
            yield f"{relative.as_posix()}: not in the manifest"


def _empty(path: Path) -> bool:
    """Whether this is the receipt of a shard without samples, which has no file of its own."""
    return path.parent.name == "shards" and path.suffix == ".json" and b'"samples":0' in path.read_bytes()


def _shard(workspace: Workspace, entry: dict[str, Any], manifest: dict[str, Any], seen: set[str]) -> list[str]:
    path = workspace.root / entry["path"]
    name = path.stem
    if not path.exists():
        return [f"{entry['path']}: missing"]
    problems: list[str] = []
    receipt_path = workspace.receipt(name)
    if not receipt_path.exists() or hash_file(receipt_path) != entry["receipt_sha256"]:
        return [f"shards/{name}.json: receipt missing or changed"]
    receipt = read_receipt(workspace, name)
    if receipt["sha256"] != entry["sha256"] or receipt["content_root"] != entry["content_root"]:
        problems.append(f"shards/{name}.json: differs from the manifest")
    damaged = path.stat().st_size != entry["bytes"] or hash_file(path) != entry["sha256"]
    if damaged:
        problems.append(f"{entry['path']}: bytes differ from the manifest")
    try:
        with open_shard(path) as file:
            problems += [f"{entry['path']}: {text}" for text in _arrays(file, receipt, manifest, seen)]
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        problems.append(f"{entry['path']}: cannot be read ({type(error).__name__})")
        seen |= {record["id"] for record in receipt["records"]}
    return problems


def _arrays(file: Any, receipt: dict[str, Any], manifest: dict[str, Any], seen: set[str]) -> Iterator[str]:
    """Sample by sample, so that the sample and the array can be named and memory stays flat."""
    attacks = manifest["attacks"]
    lattice = LATTICES[manifest["data"]["unit"]]
    large = {key for record in receipt["records"][:1] for key in record["hashes"]}
    for key, expected in receipt["arrays"].items():
        if key not in large:
            try:
                if hash_array(np.asarray(file[key][...])) != expected:
                    yield f"{key}: differs from its receipt"
            except (OSError, KeyError):
                yield f"{key}: cannot be read"
    for index, record in enumerate(receipt["records"]):
        if record["id"] in seen:
            yield f"sample {record['id']}: stands twice"
        seen.add(record["id"])
        arrays: dict[str, Any] = {}
        for key, expected in record["hashes"].items():
            try:
                arrays[key] = np.asarray(file[key][index])
            except (OSError, KeyError):
                yield f"sample {record['id']}: {key} cannot be read"
                continue
            if hash_array(arrays[key]) != expected:
                yield f"sample {record['id']}: {key} differs from its receipt"
        for name, settings in attacks.items():
            image, delta = arrays.get("image"), arrays.get(f"attacks/{name}/perturbation")
            if image is None or delta is None:
                continue
            if np.abs(delta.astype(np.int32)).max(initial=0) > settings["epsilon"]:
                yield f"sample {record['id']}: perturbation of {name} is larger than epsilon {settings['epsilon']:g}"
            total = image.astype(np.int32) + delta
            if total.min() < lattice.low or total.max() > lattice.high or not np.array_equal(total, adversarial_image(image, delta)):
                yield f"sample {record['id']}: image + perturbation of {name} leaves [{lattice.low}, {lattice.high}]"
