"""Chunks written directly are what HDF5 itself would read and check; every codec keeps its checksums."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.provenance.verify import verify
from medadv.run import Options, run
from medadv.store.codecs import filters, fletcher32, write_packed
from medadv.store.extents import damaged_pieces, find_extents
from medadv.store.layout import chunks_of


@given(st.binary(max_size=3000))
@settings(max_examples=60, deadline=None)
def test_the_checksum_is_hdf5s_own(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """HDF5 writes a chunk with Fletcher32 alone; its last four bytes are the checksum."""
    path = tmp_path_factory.mktemp("sum") / "x.h5"
    content = np.frombuffer(data or b"\0", np.uint8)
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        dataset = file.create_dataset("x", data=content, chunks=content.shape, fletcher32=True)
        file.flush()
        raw = dataset.id.read_direct_chunk((0,))[1]
    assert raw[:-4] == content.tobytes()
    assert fletcher32(raw[:-4]) == int.from_bytes(raw[-4:], "little")


SHAPES = st.sampled_from([((3, 3, 20, 17), np.uint8), ((2, 3, 33, 9), np.int8), ((1, 1, 40, 70, 65), np.int16), ((2, 1, 5, 4, 3), np.int8)])


@given(SHAPES.flatmap(lambda s: arrays(s[1], s[0], elements=st.integers(-3, 3) if s[1] is not np.uint8 else st.integers(0, 9))))
@settings(max_examples=25, deadline=None)
def test_packed_chunks_read_back_by_plain_hdf5(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("packed") / "x.h5"
    chunks = chunks_of("image", values.shape, values.ndim - 2)
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        write_packed(file.create_dataset("image", values.shape, values.dtype, **filters(chunks, "gzip")), 0, values)
    with h5py.File(path) as file:
        assert np.array_equal(file["image"][...], values)


def test_extents_name_the_sample_whose_bytes_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    values = np.arange(4 * 3 * 8 * 8, dtype=np.uint8).reshape(4, 3, 8, 8)
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=values, **filters((1, 3, 8, 8), "gzip"))
    extents = find_extents(path)
    assert list(damaged_pieces(path, extents)) == []
    _, offset, size, _ = extents["image"][2]
    content = bytearray(path.read_bytes())
    content[offset + size - 1] ^= 128
    path.write_bytes(content)
    assert list(damaged_pieces(path, extents)) == [("image", 2)]
    path.write_bytes(content[: extents["image"][3][1]])
    assert list(damaged_pieces(path, extents)) == [("image", 2), ("image", 3)]


@pytest.mark.parametrize("codec", ["blosc2", "zstd"])
def test_other_codecs_hold_the_same_content_with_checksums(tiny_corpus: Path, tmp_path: Path, codec: str) -> None:
    draw_pictures(tmp_path / "data", 4)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    corpus = run(tiny_spec(tmp_path, execution__codec=codec), Options(), quiet).corpus
    assert verify(corpus) == []
    manifest = json.loads((corpus / "manifest.json").read_text())
    assert manifest["execution"]["codec"] == codec
    path = corpus / "shards" / "shard-00000.h5"
    with h5py.File(path) as file:
        dataset = file["attacks/pgd-8/perturbation"]
        assert dataset.fletcher32
        assert dataset.compression != "gzip"
        info = dataset.id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + info.size // 2] ^= 1
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises(OSError, match=r"(?i)filter|checksum|read"):
        file["attacks/pgd-8/perturbation"][1]
