#!/usr/bin/env python3
"""Do bundles of MONAI's Model Zoo answer here what they answer in MONAI? Sixteen for CT and endoscopy, with random weights.

check_bundles.py ZOO [--only NAME ...] [--full]

ZOO is the `models` folder of the Model Zoo's repository, or part of it: configurations and scripts are all that is read, and nothing is
fetched. Each bundle is copied, given random weights by its own configuration, imported, and compared with MONAI's parser, transforms,
inferer and network on one small image, which MONAI reads from a file. Windows are made smaller where memory asks for it (`--full`: not),
in both alike. Prints a table: the way that a bundle went, and the largest difference of inputs and of logits, each as a share of the
largest value. Exit code 1 where a difference is above 1e-5 or a bundle went another way than expected.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle import import_bundle

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.victims.bundle_reference import medadv_answer, monai_answer, off, write_picture, write_volume, write_weights

TOLERANCE = 1e-5
SIDE = 64
VOLUME = (80, 72, 64)


@dataclass(frozen=True)
class Case:
    """One bundle.  changes: settings that make it smaller, by their keys.  way: expected, plain, `--trust-code` or refused."""

    name: str
    configuration: str = "inference.json"
    way: str = "plain"
    shape: tuple[int, ...] = VOLUME
    changes: dict[str, Any] = field(default_factory=lambda: {"inferer::roi_size": [SIDE] * 3})
    extra: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("spleen_ct_segmentation"),
    Case("pediatric_abdominal_ct_segmentation", "inference.yaml"),
    Case("pediatric_abdominal_ct_segmentation", "inference_segresnet.yaml"),
    Case("pediatric_abdominal_ct_segmentation", "inference_swinunetr.yaml"),
    Case("swin_unetr_btcv_segmentation"),
    Case("wholeBody_ct_segmentation", shape=(80, 72, 48)),
    Case("segmentation_template", "inference.yaml", changes={}),
    Case("multi_organ_segmentation", "inference.yaml"),
    Case("pancreas_ct_dints_segmentation", "inference.yaml"),
    Case("endoscopic_inbody_classification", shape=(256, 256), changes={}),
    Case("endoscopic_tool_segmentation", shape=(480, 736), changes={}),
    Case("lung_nodule_ct_detection", shape=(80, 72, 40), changes={"infer_patch_size": [SIDE, SIDE, SIDE // 2]}),
    Case("renalStructures_UNEST_segmentation", way="--trust-code", shape=(104, 96, 96), changes={}),
    Case("spleen_deepedit_annotation", way="--trust-code", changes={"spatial_size": [SIDE] * 3}),
    Case("vista3d", way="--trust-code", changes={"patch_size": [SIDE] * 3}, extra={"label_prompt": [3]}),
    Case("renalStructures_CECT_segmentation", way="refused", changes={}),
)


def prepared(case: Case, zoo: Path, folder: Path, full: bool) -> Path:
    """A copy of the bundle with smaller windows and random weights."""
    bundle = folder / f"{case.name}-{Path(case.configuration).stem}"
    shutil.copytree(zoo / case.name, bundle, ignore=shutil.ignore_patterns("models", "docs"))
    path = bundle / "configs" / case.configuration
    if not full:
        held = yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())
        for key, value in case.changes.items():
            *outer, last = key.split("::")
            place = held
            for name in outer:
                place = place[name]
            place[last] = value
        path.write_text(yaml.safe_dump(held) if path.suffix == ".yaml" else json.dumps(held))
    if (path.suffix == ".yaml") and "search_code_18590" in path.read_text():
        _write_search_code(bundle / "models" / "search_code_18590.pt")
    return bundle


def _write_search_code(file: Path) -> None:
    """A random topology of DiNTS as a search saves it: numpy's arrays in a pickle."""
    draw, blocks, depths = np.random.default_rng(0), 12, 4
    file.parent.mkdir(parents=True, exist_ok=True)
    open_paths = np.zeros((blocks, 3 * depths - 2))
    nodes = np.ones((blocks + 1, depths))
    open_paths[:, [0, 3, 6, 9, 2, 4]] = 1
    operations = draw.integers(0, 5, open_paths.shape).astype(float)
    torch.save({"node_a": nodes, "arch_code_a": open_paths, "arch_code_c": operations, "iter_num": 1, "best_dsc": 0.5}, file)


def way_of(bundle: Path, configuration: str) -> tuple[str, str]:
    """plain, `--trust-code` or refused, and why it is not plain."""
    why = ""
    for trust, way in ((False, "plain"), (True, "--trust-code")):
        try:
            import_bundle(bundle, trust, configuration)
        except SpecError as error:
            why = str(error)
        else:
            return way, why
    return "refused", why


def difference(case: Case, bundle: Path) -> tuple[float, float]:
    """Of inputs, and of logits."""
    picture = len(case.shape) == 2
    file = bundle / ("image.png" if picture else "image.nii.gz")
    spacing = import_bundle(bundle, True, case.configuration).preprocess.get("spacing", (1.0, 1.0, 1.0))
    image = write_picture(file, *case.shape) if picture else write_volume(file, case.shape, tuple(spacing))
    expected = monai_answer(bundle, case.configuration, file, case.extra)
    found, _, _ = medadv_answer(bundle, case.configuration, image, case.way == "--trust-code")
    return off(found.inputs, expected.inputs), off(found.logits, expected.logits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--full", action="store_true")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    failed = 0
    print("| bundle | configuration | way | inputs | logits |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if asked.only and case.name not in asked.only:
                continue
            began = time.monotonic()
            bundle = prepared(case, asked.zoo, Path(folder), asked.full)
            way, why = way_of(bundle, case.configuration)
            line = f"| {case.name} | {case.configuration} | {way} |"
            if way == "refused":
                print(f"{line} | {why} |")
                failed += case.way != way
                continue
            write_weights(bundle, case.configuration)
            inputs, logits = difference(case, bundle)
            bad = max(inputs, logits) > TOLERANCE or way != case.way
            failed += bad
            print(f"{line} {inputs:.1e} | {logits:.1e}{' !' if bad else ''} |", flush=True)
            print(f"{case.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            shutil.rmtree(bundle)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
