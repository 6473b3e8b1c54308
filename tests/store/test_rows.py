"""Samples read one by one from an open shard are what HDF5 reads, and no changed byte passes."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tests.training.small_corpora import classification, detection, segmentation

from medadv.common.errors import IntegrityError
from medadv.common.hashing import hash_file
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest, write_manifest
from medadv.store.reader import adversarial_image, open_rows, read_content
from medadv.store.rows import Rows
from medadv.store.writer import write_content
from medadv.training.dataset import CorpusDataset

CODECS = ("gzip", "szip", "blosc2", "zstd", "lz4", "none")
PERTURBATION = "attacks/a/perturbation"


def rewritten(corpus: Path, codec: str) -> Path:
    """The corpus with its shard in another codec, and a manifest that is true of it."""
    path = corpus / "shards" / "shard-00000.h5"
    content = read_content(path)
    path.unlink()
    write_content(path, content, content.arrays["image"].ndim - 2, codec)
    manifest = read_manifest(Workspace(corpus))
    (entry,) = manifest.shards
    entry = entry.model_copy(update={"bytes": path.stat().st_size, "sha256": hash_file(path)})
    execution = manifest.execution.model_copy(update={"codec": codec})
    write_manifest(Workspace(corpus), manifest.model_copy(update={"shards": [entry], "execution": execution}))
    return path


@pytest.mark.parametrize("make", [classification, segmentation, detection])
def test_every_codec_gives_the_same_items(tmp_path: Path, make: Any) -> None:
    corpus = make(tmp_path / "corpus")
    expected = list(CorpusDataset(corpus))  # type: ignore[call-overload]
    for codec in CODECS:
        path = rewritten(corpus, codec)
        with h5py.File(path) as file:
            for name in ("image", PERTURBATION):
                assert file[name].fletcher32
                assert (file[name].compression is None) == (codec == "none")
        for verify in ("chunks", "files"):
            dataset = CorpusDataset(corpus, verify=verify)  # type: ignore[arg-type]
            for index, item in enumerate(expected):
                found = dataset[index]
                assert found.keys() == item.keys()
                for key, value in item.items():
                    assert torch.equal(found[key], value) if isinstance(value, torch.Tensor) else found[key] == value


@pytest.mark.parametrize("name", ["image", PERTURBATION])
@pytest.mark.parametrize("codec", ["none", "lz4"])
@pytest.mark.parametrize("verify", ["chunks", "files"])
def test_a_flipped_bit_is_found(tmp_path: Path, name: str, codec: str, verify: Any) -> None:
    corpus = classification(tmp_path / "corpus")
    path = rewritten(corpus, codec)
    with h5py.File(path) as file:
        chunk = file[name].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    for place in (chunk.byte_offset, chunk.byte_offset + chunk.size // 2, chunk.byte_offset + chunk.size - 1):
        content[place] ^= 4
        path.write_bytes(content)
        dataset = CorpusDataset(corpus, verify=verify)
        with pytest.raises(IntegrityError, match="SHA-256 is not that of the manifest" if verify == "files" else "medadv verify"):
            dataset[3]
        content[place] ^= 4
    path.write_bytes(content)
    dataset = CorpusDataset(corpus, verify=verify)
    dataset[3]
    # A file that changes once it was read is read anew.
    content[chunk.byte_offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        dataset[3]


def test_what_is_kept_in_memory_is_nobodys_to_change(tmp_path: Path) -> None:
    dataset = CorpusDataset(segmentation(tmp_path / "corpus"))
    first = dataset[0]
    kept = {key: value.clone() for key, value in first.items() if isinstance(value, torch.Tensor)}
    for key in kept:
        first[key] += 1
    again = dataset[0]
    for key, value in kept.items():
        assert torch.equal(again[key], value)


def test_a_chunk_without_its_checksum_is_refused(tmp_path: Path) -> None:
    """Written past its filters, as damage would have it: shorter, or said to be without a checksum."""
    values = np.arange(3 * 16, dtype=np.uint8).reshape(3, 1, 4, 4)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("image", data=values, chunks=(1, 1, 4, 4), fletcher32=True)
        dataset.id.write_direct_chunk((1, 0, 0, 0), b"\0" * 16)
        dataset.id.write_direct_chunk((2, 0, 0, 0), b"\0" * 20, 1)
    with h5py.File(tmp_path / "x.h5") as file:
        rows = Rows(file)
        assert np.array_equal(rows.whole("image", 0, check=True), values[0])
        for row in (1, 2):
            with pytest.raises(OSError, match=f"image of row {row} is no chunk with a checksum"):
                rows.whole("image", row, check=False)
        with pytest.raises(OSError, match="cannot be read"):
            rows.whole("image", 3, check=False)


@pytest.mark.parametrize(("image", "delta"), [(np.uint8, np.int8), (np.uint8, np.int16), (np.int16, np.int8), (np.int16, np.int16)])
def test_the_sum_is_that_of_whole_numbers(image: Any, delta: Any) -> None:
    low, high = (0, 255) if image == np.uint8 else (-1024, 3071)
    most = np.iinfo(delta).max if delta == np.int8 else 200
    draw = np.random.default_rng(0)
    clean = draw.integers(low, high + 1, 4000).astype(image)
    moved = np.clip(clean.astype(int) + draw.integers(-most, most + 1, 4000), low, high)
    found = adversarial_image(clean, (moved - clean).astype(delta))
    assert found.dtype == image
    assert np.array_equal(found, moved)


def test_rows_go_with_the_file(tmp_path: Path) -> None:
    path = rewritten(classification(tmp_path / "corpus"), "none")
    before = open_rows(path)
    assert open_rows(path) is before
    path.write_bytes(path.read_bytes())
    assert open_rows(path) is not before
