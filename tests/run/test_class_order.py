"""Classes of a label map are numbered as they are written, by everyone: plans keep keys sorted, and workers read plans."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from tests.conftest import quiet, save_victim
from tests.run.test_tasks import UNET, chest, segmentation_spec

from medadv.common.hashing import canonical_json
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.run import run
from medadv.spec.data import DataSettings

pytestmark = pytest.mark.usefixtures("inline")

ARGUMENTS = {"spatial_dims": 3, **UNET, "out_channels": 3}


def mapped(folder: Path, label_map: dict[str, list[int]], **data: Any) -> Path:
    chest(folder / "data", (32, 32, 8))
    save_victim(folder / "victim.safetensors", "monai:unet", ARGUMENTS)
    path = segmentation_spec(folder, 3)
    spec = yaml.safe_load(path.read_text())
    spec["victim"]["arguments"] = ARGUMENTS
    spec["data"] |= {"label_map": label_map, **data}
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@pytest.mark.parametrize("names", [["tumour", "lung"], ["lung", "tumour"]])
def test_stored_labels_and_published_names_follow_the_map(names: list[str], tmp_path: Path) -> None:
    """The masks hold 1, which the map names second."""
    result = run(mapped(tmp_path, {names[0]: [2], names[1]: [1]}), Options(), quiet)
    with h5py.File(result.corpus / result.manifest.shards[0].path) as file:
        assert np.unique(file["label"]).tolist() == [0, 2]
    published = result.manifest.data
    assert list(published.classes or published.label_map or {}) == names
    # Plans of maps in alphabetical order are what they were.
    assert (published.classes is None) == (names == sorted(names))
    assert f"{names[1]}" in write_report(result.corpus).read_text()
    assert run(tmp_path / "spec.yaml", Options(), quiet).new_shards == 0


SEGMENTATION = {"modality": "ct", "task": "segmentation", "layout": "decathlon", "path": "d.json"}


@pytest.mark.parametrize("names", [["b", "background", "a"], ["a", "b"], ["whole", "core", "enhancing"]])
def test_the_order_survives_sorted_keys(names: list[str]) -> None:
    given = DataSettings.model_validate({**SEGMENTATION, "label_map": {name: [value] for value, name in enumerate(names)}})
    again = DataSettings.model_validate_json(canonical_json(given.model_dump(mode="json")))
    assert again == given
    foreground = [name for name in names if name != "background"]
    for read in (given, again):
        assert [name for name in read.label_map or {} if name != "background"] == foreground


def test_classes_number_the_map_and_cannot_contradict_it() -> None:
    given = DataSettings.model_validate({**SEGMENTATION, "label_map": {"a": [1], "b": [2]}, "classes": ["b", "a"]})
    assert list(given.label_map or {}) == ["b", "a"]
    with pytest.raises(ValueError, match="label_map names b, a, and classes b, c"):
        DataSettings.model_validate({**SEGMENTATION, "label_map": {"b": [1], "a": [2]}, "classes": ["b", "c"]})
