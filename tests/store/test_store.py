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

from medadv.common.errors import SpecError
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.store.codecs import filters, fletcher32, require_codec, write_packed
from medadv.store.extents import damaged_pieces, find_extents
from medadv.store.layout import ShardContent, chunks_of
from medadv.store.writer import GridFile, write_content


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
        write_packed(file.create_dataset("image", values.shape, values.dtype, **filters("image", values.dtype, chunks, "gzip")), 0, values)
    with h5py.File(path) as file:
        assert np.array_equal(file["image"][...], values)


def test_chunks_packed_in_several_threads_are_the_same_file(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-4, 5, (9, 1, 40, 70, 65), np.int8)
    for threads in (1, 3):
        file = GridFile(tmp_path / f"{threads}.h5", len(values), 3, threads=threads)
        for start in (0, 4):
            file.append({"attacks/a/perturbation": values[start : start + (4 if start == 0 else 5)]})
        assert file.close()
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "3.h5").read_bytes()
    with h5py.File(tmp_path / "3.h5") as stored:
        assert np.array_equal(stored["attacks/a/perturbation"][...], values)


def test_extents_name_the_sample_whose_bytes_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    values = np.arange(4 * 3 * 8 * 8, dtype=np.uint8).reshape(4, 3, 8, 8)
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=values, **filters("image", values.dtype, (1, 3, 8, 8), "gzip"))
    extents = find_extents(path)
    assert list(damaged_pieces(path, extents)) == []
    _, offset, size, _ = extents["image"][2]
    content = bytearray(path.read_bytes())
    content[offset + size - 1] ^= 128
    path.write_bytes(content)
    assert list(damaged_pieces(path, extents)) == [("image", 2)]
    path.write_bytes(content[: extents["image"][3][1]])
    assert list(damaged_pieces(path, extents)) == [("image", 2), ("image", 3)]


ATTACKED = "attacks/pgd-8/perturbation"


@pytest.mark.parametrize(("codec", "array"), [("szip", "image"), ("blosc2", ATTACKED), ("zstd", ATTACKED), ("none", ATTACKED)])
def test_other_codecs_hold_the_same_content_with_checksums(tiny_corpus: Path, tmp_path: Path, codec: str, array: str) -> None:
    draw_pictures(tmp_path / "data", 4)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    corpus = run(tiny_spec(tmp_path, execution__codec=codec), Options(), quiet).corpus
    assert verify(corpus) == []
    manifest = json.loads((corpus / "manifest.json").read_text())
    assert manifest["execution"]["codec"] == codec
    path = corpus / "shards" / "shard-00000.h5"
    with h5py.File(path) as file:
        dataset = file[array]
        assert dataset.fletcher32
        assert dataset.compression != "gzip"
        info = dataset.id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + info.size // 2] ^= 1
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises(OSError, match=r"(?i)filter|checksum|read"):
        file[array][1]


IMAGES = arrays(np.uint8, st.sampled_from([(2, 3, 20, 17), (1, 1, 40, 70, 65), (2, 1, 5, 4), (1, 1, 3, 5), (1, 3, 2, 4100)]))


@given(IMAGES)
@settings(max_examples=25, deadline=None)
def test_szip_images_read_back_by_plain_hdf5(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("szip") / "x.h5"
    write_content(path, ShardContent(arrays={"image": values}), values.ndim - 2, "szip")
    with h5py.File(path) as file:
        assert file["image"].compression == ("szip" if values[0].size >= 16 else "gzip")
        assert np.array_equal(file["image"][...], values)


def test_szip_is_for_images_of_grey_levels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 1, 16, 16)
    held = {"image": rng.integers(-1000, 400, shape, np.int16), "attacks/a/perturbation": rng.integers(-4, 5, shape, np.int8)}
    write_content(tmp_path / "x.h5", ShardContent(arrays=held), 2, "szip")
    with h5py.File(tmp_path / "x.h5") as file:
        assert {file[name].compression for name in held} == {"gzip"}


def test_an_hdf5_without_szip_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda _: False)
    require_codec("gzip")
    with pytest.raises(SpecError, match="SZIP"):
        require_codec("szip")
