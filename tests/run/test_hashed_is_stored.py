"""What is hashed is what is stored: inputs that are rewritten while a worker reads them are left out, or are as they were hashed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.run.shared_reading import CSV, DICOM, codes, load, loaded, plan, series, volume
from tests.run.slices import planned_slices
from tests.transforms.ct_phantoms import ct_slice, write_nifti

from medadv.batches import loading
from medadv.batches.loading import unchanged
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.reader import Reader
from medadv.plan.frozen import thaw
from medadv.run import shard, worker
from medadv.run.job import Job
from medadv.run.lock import held as held_lock
from medadv_transforms import held

Rewrite = Callable[[], None]


def pictures(folder: Path) -> list[Path]:
    """Four photographs of one grey level each, with masks of zeros, and a csv that names both."""
    rows = ["file,mask"]
    for index in range(4):
        Image.fromarray(np.full((32, 32, 3), 50 + index, np.uint8)).save(folder / f"{index}.png")
        Image.fromarray(np.full((32, 32), 0, np.uint8)).save(folder / f"{index}-mask.png")
        rows.append(f"{index}.png,{index}-mask.png")
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    return [folder / f"{index}.png" for index in range(4)]


def between(monkeypatch: pytest.MonkeyPatch, rewrite: Rewrite) -> None:
    """Have files rewritten after they were hashed for a sample and before they are decoded."""
    plain = loading.content_of

    def content_of(*arguments: Any) -> Any:
        found = plain(*arguments)
        rewrite()
        return found

    monkeypatch.setattr(loading, "content_of", content_of)


@pytest.mark.parametrize("what", ["image", "mask"])
def test_a_picture_is_decoded_from_the_bytes_that_were_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    paths = pictures(tmp_path)
    reader, shards = plan(tmp_path, modality="fundus", **CSV)

    def rewrite() -> None:
        for path in paths:
            name = path if what == "image" else path.with_name(f"{path.stem}-mask.png")
            Image.fromarray(np.full((32, 32, 3) if what == "image" else (32, 32), 1 if what == "mask" else 200, np.uint8)).save(name)

    between(monkeypatch, rewrite)
    found = load(reader, shards)
    # The first sample was hashed and held before anything changed; the others are not what the plan says when they are hashed.
    assert codes(found).count("changed-input") in (2, 3)
    for batch in found:
        for item in batch.loaded:
            assert item.sample.image.max() < 60
            assert item.sample.label.max() == 0


def test_what_is_too_large_to_hold_is_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "HELD_BYTES", 8)
    paths = pictures(tmp_path)
    reader, shards = plan(tmp_path, modality="fundus", **CSV)
    assert len(loaded(load(reader, shards))) == 4

    def rewrite() -> None:
        for path in paths:
            Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(path)

    between(monkeypatch, rewrite)
    assert codes(load(reader, shards)) == ["changed-input"] * 4


@pytest.mark.parametrize("what", ["ct", "mask"])
def test_a_volume_that_slices_share_is_what_was_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    volume(tmp_path, 8)
    reader, shards = plan(tmp_path, **CSV)
    shape = reader.opened(shards[0].samples[0].source).slices.shape  # type: ignore[union-attr]
    other = np.full(shape, 1, np.int16 if what == "ct" else np.float32)
    between(monkeypatch, lambda: write_nifti(tmp_path / f"{what}.nii.gz", other, np.diag([-0.5, -0.75, 2.0, 1.0])))
    assert codes(load(Reader(reader.root, reader.data, reader.preprocess), shards)) == ["changed-input"] * 8


def test_the_file_of_a_slice_is_what_was_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = series(tmp_path, 8)
    reader, shards = plan(tmp_path, **DICOM)

    def rewrite() -> None:
        for z in (3, 6):
            dataset = ct_slice(z)
            dataset.PixelData = bytes(len(dataset.PixelData))
            dataset.save_as(paths[z])

    hashes = FileHashes(None)
    first = [item for batch in load(reader, shards[:1], hashes) for item in batch.loaded]
    between(monkeypatch, rewrite)
    found = load(reader, shards[1:], hashes)
    assert "changed-input" in codes(found)
    assert all(item.sample.image.any() for batch in found for item in batch.loaded)
    # Slices beside it were loaded by then: that the series is another one is seen before they are committed.
    assert len(first) == 4
    assert not unchanged(first, reader, hashes)


@pytest.mark.parametrize(("change", "left"), [("touched", [4, 4]), ("rewritten", [0, 0])])
def test_a_shard_whose_series_changes_is_made_again(change: str, left: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = series(tmp_path / "data", 8)
    workspace = planned_slices(tmp_path)
    verified: list[Path] = []
    plain = shard._verify

    def verify(temporary: Path, content: Any) -> None:
        plain(temporary, content)
        verified.append(temporary)
        if len(verified) == 1:
            data = bytearray(paths[0].read_bytes())
            data[-1] ^= change == "rewritten"
            paths[0].write_bytes(data)

    monkeypatch.setattr(shard, "_verify", verify)
    with held_lock(workspace.lock) as hold:
        lines = list(thaw(workspace.plan(0)).lines())
        made = [worker.make(Job(str(workspace.root), 0, line, False, str(hold.path), hold.token)) for line in lines]
    assert [result.samples for result in made] == left
    # The first shard was made twice; what is another series by then is nowhere.
    assert len(verified) == (3 if change == "touched" else 1)
