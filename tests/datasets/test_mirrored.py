"""A mirrored sample is the same patient: image, region, truth and affine say so together, and export leads back."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import CLASSIFIER, InlinePool, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.errors import SpecError
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.datasets.labels import Boxes
from medadv.datasets.mirrored import FACT, axes_drawn, label_turned, mirrored, turned
from medadv.datasets.sample import Sample
from medadv.datasets.space_boxes import in_space
from medadv.export.item import Item
from medadv.export.native import to_native
from medadv.prepare.request import Options
from medadv.run import cluster
from medadv.run.run import run
from medadv.training.dataset import CorpusDataset
from medadv_transforms.placement import Placement


def sample_of(shape: tuple[int, ...], axes: str, label: Any, affine: Any = None) -> Sample:
    image = np.random.default_rng(0).integers(0, 200, (1, *shape)).astype(np.int16)
    return Sample(image, "hu", axes, label, affine, None, image[0] > 100, {"modality": "ct"})


@pytest.mark.parametrize(("axes", "spatial"), [([0], "yx"), ([1], "yx"), ([0, 1], "yx"), ([0, 2], "xyz"), ([1], "xy")])
def test_what_a_box_holds_it_holds_afterwards(axes: list[int], spatial: str) -> None:
    shape = (5, 7, 6)[: len(spatial)]
    low, high = [1, 2, 3][: len(spatial)], [3, 3, 5][: len(spatial)]
    # Boxes have x first; of pictures the last axis is x.
    order = ["xyz".index(name) for name in spatial]
    box = [[low[order.index(i)] for i in range(len(spatial))] + [high[order.index(i)] for i in range(len(spatial))]]
    before = sample_of(shape, spatial, Boxes.of(box, [1], dims=len(spatial)))
    after = mirrored(before, axes)

    def inside(sample: Sample) -> np.ndarray[Any, Any]:
        edges = sample.label.boxes[0].astype(int)
        # Of volumes both corners are centres of voxels.
        last = len(spatial) == 3
        places = [slice(edges[order[i]], edges[order[i] + len(spatial)] + last) for i in range(len(spatial))]
        return sample.image[(0, *places)]

    assert inside(before).size > 0
    assert np.array_equal(inside(after), np.flip(inside(before), axes))
    assert after.region is not None
    assert np.array_equal(after.region, after.image[0] > 100)
    assert after.facts == {"modality": "ct", FACT: axes}
    again = mirrored(after, axes)
    assert np.array_equal(again.image, before.image)
    assert np.array_equal(again.label.boxes, before.label.boxes)


def test_masks_go_along_and_classes_stay() -> None:
    mask = np.arange(12).reshape(3, 4)
    assert np.array_equal(label_turned(mask, [1], (3, 4), "yx"), mask[:, ::-1])
    assert np.array_equal(label_turned(np.stack([mask, mask + 1]), [0], (3, 4), "yx")[1], mask[::-1] + 1)
    assert label_turned(2, [0], (3, 4), "yx") == 2
    assert label_turned([0, 1, 1], [0], (3, 4), "yx") == [0, 1, 1]
    assert mirrored(before := sample_of((3, 4), "xy", 1), ()) is before


def test_every_voxel_stays_where_it_is_in_the_patient() -> None:
    affine = np.array([[0.7, 0.1, 0, -90], [-0.1, 0.8, 0, 40], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    before = sample_of((5, 7, 6), "xyz", 1, affine)
    after = mirrored(before, [0, 2])
    assert after.affine is not None
    for voxel in ([0, 0, 0], [4, 1, 5], [2, 6, 3]):
        there = [4 - voxel[0], voxel[1], 5 - voxel[2]]
        assert before.image[(0, *voxel)] == after.image[(0, *there)]
        assert np.allclose(affine @ [*voxel, 1], after.affine @ [*there, 1])


@pytest.mark.parametrize("axes", [[0], [1], [2], [0, 1, 2]])
def test_a_box_of_a_volume_stays_where_it_is_in_the_patient(axes: list[int]) -> None:
    affine = np.array([[-2.0, 0, 0, 90], [0, 0.8, 0, 40], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    before = sample_of((16, 17, 18), "xyz", Boxes.of([[5, 2, 3, 8, 4, 9]], [1], dims=3), affine)
    after = mirrored(before, axes)
    assert after.affine is not None
    assert np.allclose(in_space(after.label, after.affine), in_space(before.label, affine))


def test_in_as_many_turns_as_ways_each_sample_is_seen_in_every_way() -> None:
    names = [f"{number:032x}" for number in range(200)]
    for name in names:
        assert sorted(axes_drawn(name, (0, 1), turn) for turn in range(4)) == [(), (0,), (0, 1), (1,)]
        assert axes_drawn(name, (0, 1), 5) == axes_drawn(name, (0, 1), 1)
        assert axes_drawn(name, (1,), 0) != axes_drawn(name, (1,), 1)
    # 50 expected of each way; beyond 75 or below 25 is four standard deviations.
    counts = [sum(axes_drawn(name, (0, 1), 0) == way for name in names) for way in ((), (0,), (1,), (0, 1))]
    assert all(25 < count < 75 for count in counts)


@pytest.mark.parametrize("lossy", [False, True])
def test_the_native_grid_is_that_of_the_source(lossy: bool) -> None:
    scaled = (10, 15) if lossy else (20, 30)
    placement = Placement((50, 60), (5, 7, 20, 30), scaled, (6, 1), (32, 36))
    image = np.random.default_rng(1).integers(0, 256, (3, 32, 36), np.uint8)
    upright = Item("n0", "pgd", image, "level8", "yx", Boxes.of([[4, 8, 9, 12]], [1]), None, {"placement": placement.as_dict()})
    for axes in ([0], [1], [0, 1]):
        other = replace(
            upright,
            image=turned(image, axes, 2),
            label=label_turned(upright.label, axes, (32, 36), "yx"),
            facts={**upright.facts, FACT: axes},
        )
        one, two = to_native(upright, lossy), to_native(other, lossy)
        assert np.array_equal(one.item.image, two.item.image)
        assert isinstance(one.item.label, Boxes)
        assert isinstance(two.item.label, Boxes)
        assert np.allclose(one.item.label.boxes, two.item.label.boxes)
        if lossy:
            assert one.back is not None
            assert two.back is not None
            assert np.array_equal(turned(one.back(one.item.image), axes, 2), two.back(two.item.image))
        else:
            assert two.back is None


def made(folder: Path, turn: int | None) -> Path:
    path, out = folder / "spec.yaml", folder / f"turn-{turn}"
    change = [] if turn is None else [f"preprocess.mirror={{axes: [0, 1], turn: {turn}}}"]
    run(path, Options(out=out, overrides=change), quiet)
    return out


def test_a_corpus_holds_its_samples_mirrored_and_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))
    draw_pictures(tmp_path / "data", 8)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    tiny_spec(tmp_path)
    plain, first, fifth = (made(tmp_path, turn) for turn in (None, 1, 5))
    manifests = [read_manifest(Workspace(each)) for each in (plain, first, fifth)]
    # What means nothing new is in no plan.
    assert "mirror" not in manifests[0].preprocess.model_dump()
    assert manifests[1].preprocess.mirror is not None
    datasets = [CorpusDataset(each, mode="clean") for each in (plain, first, fifth)]
    ways = set()
    for upright, one, same in zip(*datasets, strict=True):
        name = upright["sample_id"]
        axes = axes_drawn(name, (0, 1), 1)
        ways.add(axes)
        assert np.array_equal(turned(np.asarray(upright["image"]), axes, 2), np.asarray(one["image"]))
        assert np.array_equal(np.asarray(one["image"]), np.asarray(same["image"]))
    assert len(ways) > 1
    receipt, _ = manifests[1].shards[0].receipt(first)
    assert receipt is not None
    assert all(tuple(record.facts.get(FACT, ())) == axes_drawn(record.id, (0, 1), 1) for record in receipt.records)
    with pytest.raises(SpecError, match=r"preprocess.mirror \(of a hardening: flips\): axis 2 of images of 2 spatial axes"):
        run(tmp_path / "spec.yaml", Options(out=tmp_path / "no", overrides=["preprocess.mirror={axes: [2]}"]), quiet)
