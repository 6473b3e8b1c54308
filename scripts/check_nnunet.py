#!/usr/bin/env python3
"""Do victims from nnU-Net's folders answer what nnU-Net answers, from the file on?

check_nnunet.py [--env DIR] [--work DIR]

Small networks with random weights, in folders as nnU-Net leaves them, answer random volumes and pictures twice: by `nnUNetPredictor` in an
environment of its own, where nnunetv2 is installed beside the packages of this one, and by medadv through its reader and its victim. Both
run on the CPU with one thread. nnU-Net's accumulators are in single precision here, since its own in half precision differ from those
by up to half a unit; the column `half` says by how much. The difference has to be 0 with `window_batch: 1`, and 1e-5 of the largest logit
with batches of windows, or where an image's own statistics normalise it. Where files have other voxels than the plans, both tools resample,
each in its own way, and the share of voxels with another class is printed.

Then two whole runs on data sets in nnU-Net's form, whose masks are what nnU-Net answered, so that the Dice before the attack is known. Each
corpus is verified, and made again from what is published of it and the weights alone, with the model's folder and `.medadv` gone.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import yaml
from PIL import Image

from medadv.datasets.reader import Reader
from medadv.datasets.source import Source
from medadv.spec.run_spec import RunSpec
from medadv.victims.importers.resolve import read_spec
from medadv.victims.loading import VictimRequest
from medadv_transforms import restore_grid

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.victims.nnunet_folders import OF_PICTURES, REGIONS, Training, smooth, write_volume

ROOT = Path(__file__).resolve().parents[1]
ROUNDING = 1e-5
"""Of the largest logit: sums in another order."""
SHAPE, SPACING = (38, 30, 17), (1.0, 1.5, 2.5)

FULL = Training()
FLAT = Training(configuration="2d", patch=(16, 24), spacing=(1.5, 1.0), mirror=(0, 1))
REGION = Training(network="ResidualEncoderUNet", labels=REGIONS, order=(1, 2, 3), folds=(0, 1))
RGB = replace(FLAT, **OF_PICTURES)


@dataclass(frozen=True)
class Case:
    """A training, and a file for it.

    codes: along which axes the volume is stored; None for a picture.  exact: whether no bit may differ with one window a batch.
    """

    name: str
    training: Training
    codes: str | None
    spacing: tuple[float, float, float] = SPACING
    border: int = 0
    exact: bool = True
    shape: tuple[int, int, int] = SHAPE

    @property
    def pictures(self) -> bool:
        """Whether its file is a picture."""
        return self.codes is None

    def written(self, work: Path) -> dict[str, Any]:
        """Model, file and spec, and what the reference has to know of them."""
        folder = work / self.name.replace(" ", "-").replace(",", "")
        model = self.training.written(folder / "model")
        file = folder / f"case_0000{self.training.ending}"
        if self.pictures:
            levels = np.stack([smooth(self.shape[:2], seed) for seed in range(3)], -1) // 8 + 120
            Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(file)
        else:
            write_volume(file, self.shape, self.spacing, str(self.codes), 1, self.border)
        size = {"preprocess": {"size": list(self.shape[:2])}} if self.pictures else {}
        victim = {"nnunet": "model", "fold": list(self.training.folds)}
        write_spec(folder, victim, {"modality": "endoscopy" if self.pictures else "ct"}, **size)
        told = {"model": str(model), "folds": list(self.training.folds), "checkpoint": "final", "files": [str(file)]}
        return {**told, "out": str(folder / "reference.npz"), "pictures": self.pictures}


def turned(training: Training, codes: str) -> Training:
    """With the spacing of SPACING for a volume that is stored along `codes`, whatever the reader makes of that."""
    orientation = "RAS" if training.reader.endswith("WithReorient") else codes
    along = {letter: SPACING[axis] for axis, code in enumerate(codes) for letter in opposite(code)}
    stored = [along[code] for code in orientation]
    seen = [stored[2 - axis] for axis in training.transpose]
    return replace(training, spacing=seen[-len(training.patch) :])


def opposite(code: str) -> str:
    """Both letters of an axis."""
    return next(pair for pair in ("LR", "AP", "IS") if code in pair)


CASES = [
    *(
        Case(f"{name}, {training.reader}, {codes}", turned(training, codes), codes)
        for name, plain in (
            ("3d_fullres", FULL),
            ("2d", FLAT),
            ("residual encoder with regions, 2 folds", REGION),
            ("transposed plan", replace(FULL, transpose=(2, 0, 1))),
            ("2d, transposed", replace(FLAT, transpose=(1, 0, 2))),
        )
        for training in (plain, replace(plain, reader="NibabelIOWithReorient"))
        for codes in ("LPS", "RAS")
    ),
    Case("axes exchanged, NibabelIOWithReorient, SAL", turned(replace(FULL, reader="NibabelIOWithReorient"), "SAL"), "SAL"),
    Case("axes exchanged, NibabelIO, SAL", turned(replace(FULL, reader="NibabelIO"), "SAL"), "SAL"),
    Case("axes exchanged, SimpleITKIOWithReorient, SAL", turned(replace(FULL, reader="SimpleITKIOWithReorient"), "SAL"), "SAL"),
    Case("old plans, inherited", replace(FULL, old=True, inherits=True), "LPS"),
    Case("cropped to what is not 0", FULL, "LPS", border=4),
    Case("smaller than the window", FULL, "LPS", shape=(13, 30, 6)),
    Case("not mirrored", replace(FULL, mirror=None), "LPS"),
    Case("pictures, RGBTo01", RGB, None),
    Case("NoNormalization", replace(FULL, schemes=("NoNormalization",)), "LPS"),
    Case("ZScore", replace(FULL, schemes=("ZScoreNormalization",)), "LPS", exact=False),
    Case("ZScore in the mask", replace(FULL, schemes=("ZScoreNormalization",), masked=(True,)), "LPS", border=4, exact=False),
    Case("RescaleTo01", replace(FULL, schemes=("RescaleTo01Normalization",)), "LPS"),
    Case("resampled", FULL, "LPS", spacing=(0.8, 1.25, 3.0)),
    Case("resampled, 2d", FLAT, "LPS", spacing=(0.8, 1.25, 3.0)),
]


def write_spec(folder: Path, victim: dict[str, Any], data: dict[str, Any], **more: Any) -> Path:
    """A run spec beside its data. Task, classes or label map, spacing and orientation are the importer's to say."""
    spec = {
        "name": "nnunet",
        "data": {"layout": "nnunet", "path": ".", **data},
        "victim": victim,
        "attacks": {"pgd-8": {"attack": "pgd", "epsilon": 8, "step": 2, "steps": 3}},
        "execution": {"workers": 1, "batch_size": 1},
        "sanity_samples": 0,
        "output": "corpus",
        **more,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return folder / "spec.yaml"


def environment(folder: Path) -> Path:
    """The interpreter of an environment with nnunetv2, which sees the packages of this one: torch is not installed twice."""
    python = folder / "bin" / "python"
    probe = [str(python), "-c", "import nnunetv2"]
    if not python.exists() or subprocess.run(probe, capture_output=True).returncode:
        print(f"installing nnunetv2 in {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
        (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "nnunetv2"], check=True)
    return python


def ask_nnunet(python: Path, cases: list[dict[str, Any]], work: Path) -> None:
    """nnU-Net's answers, an .npz file a case."""
    (work / "cases.json").write_text(json.dumps(cases))
    command = [str(python), "-W", "ignore", str(ROOT / "scripts" / "nnunet_reference.py"), str(work / "cases.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def answers(spec: RunSpec, folder: Path, file: str, window_batch: int) -> tuple[Any, dict[str, Any]]:
    """Logits (K, *spatial) of a file on the stored grid, and what its reader noted."""
    victim = spec.victim.model_copy(update={"window_batch": window_batch})
    sample = Reader(folder, spec.data, spec.preprocess).read(Source((file,), None))
    request = VictimRequest(victim, spec.data.task, folder, x_first=sample.unit == "hu")
    module: Any = request.load(torch.device("cpu"), sample.image.shape).scored.module
    with torch.no_grad():
        return module(torch.from_numpy(sample.image.astype(np.float32))[None])[0].numpy(), sample.facts


def compare(case: Case, told: dict[str, Any]) -> bool:
    """Print one line of the table; whether the answers are near enough."""
    file, reference = Path(told["files"][0]), np.load(told["out"])
    spec, _ = read_spec(file.parent / "spec.yaml")
    single, facts = answers(spec, file.parent, file.name, 1)
    if bool(reference["resampled"]):
        own = single.argmax(0).astype(np.int16)[None]
        back = restore_grid(own, facts["resampling"], nearest=True)[0]
        print(f"{case.name:67} resampled: another class at {(back != reference['classes']).mean():.1%} of the voxels")
        return "resampled" in case.name
    wanted = reference["logits"]
    inside = ~np.isnan(wanted)
    largest = float(np.abs(wanted[inside]).max())
    one = float(np.abs(single - wanted)[inside].max())
    several = float(np.abs(answers(spec, file.parent, file.name, 4)[0] - wanted)[inside].max())
    half = float(np.abs(reference["half"] - wanted)[inside].max())
    background = single[:, ~inside[0]]
    empty = (background < 0).all() if spec.victim.head == "sigmoid" else (background.argmax(0) == 0).all()
    fits = (one == 0 if case.exact else one <= ROUNDING * largest) and several <= ROUNDING * largest and bool(empty)
    cropped = f"{1 - inside.mean():.0%} cropped" if not inside.all() else ""
    print(f"{case.name:67} {largest:8.3f} {one:9.1e} {several:9.1e} {half:9.1e}  {'' if fits else 'NOT EQUAL'} {cropped}")
    return fits


def medadv(*words: str | Path) -> str:
    """What a verb says; CalledProcessError where it does not end with 0."""
    done = subprocess.run([sys.executable, "-m", "medadv", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
        done.check_returncode()
    return done.stdout.strip()


def whole_run(name: str, training: Training, python: Path, work: Path) -> bool:
    """A corpus of a data set in nnU-Net's form, verified, and made again without the folder; whether all of it went well."""
    folder = work / f"run-{name}"
    model = training.written(folder / "model")
    cases = []
    for index in range(3):
        codes = ("LPS", "RAS", "LPS")[index]
        image = write_volume(folder / "imagesTr" / f"case{index}_0000.nii.gz", (24, 20, 9), SPACING, codes, index + 1, border=index)
        told = {"model": str(model), "folds": list(training.folds), "checkpoint": "final", "files": [str(image)]}
        cases.append({**told, "out": str(folder / f"{index}.npz"), "pictures": False})
    ask_nnunet(python, cases, folder)
    for case in cases:
        truth_of(case, training, folder / "labelsTr")
    shutil.copy(model / "dataset.json", folder / "dataset.json")
    spec = write_spec(folder, {"nnunet": "model", "fold": list(training.folds), "window_batch": 1}, {})
    print(f"{name}: {medadv('run', spec).splitlines()[-1]}")
    manifest = json.loads((folder / "corpus" / "manifest.json").read_text())
    discreet = str(work) not in json.dumps(manifest)
    print(f"{name}: {medadv('verify', folder / 'corpus', '--deep').splitlines()[-1]}")
    published = folder / "published"
    shutil.copytree(folder / "corpus", published, ignore=shutil.ignore_patterns(".medadv"))
    weights: list[str] = []
    for fold in training.folds:
        shutil.copy(model / f"fold_{fold}" / "checkpoint_final.pth", folder / f"weights-{fold}.pth")
        weights += ["--weights", str(folder / f"weights-{fold}.pth")]
    shutil.rmtree(folder / "model")
    shutil.rmtree(folder / "corpus")
    print(f"{name}: {medadv('reproduce', published, '--all', *weights).splitlines()[0]}")
    clean, wanted = manifest["metrics"]["pgd-8"]["clean"], float(np.mean([dice(case, training) for case in cases]))
    print(f"{name}: Dice {clean:.6f} before the attack, {wanted:.6f} by nnU-Net's logits")
    return discreet and abs(clean - wanted) < 1e-6 and (clean == 1 or training.order is not None)


def dice(case: dict[str, Any], training: Training) -> float:
    """Of nnU-Net's answers against what it exports of them: 1 for labels. Of regions a mask keeps one a voxel, so that less may be left."""
    held = np.load(case["out"])
    # Where nnU-Net cropped, it answers nothing.
    logits, classes = np.nan_to_num(held["logits"], nan=-1), held["classes"]
    if training.order is None:
        return float((logits.argmax(0) == classes)[~np.isnan(held["logits"][0])].all())
    regions = [values for values in training.labels.values() if values]
    found = [(own > 0, np.isin(classes, values)) for own, values in zip(logits, regions, strict=True)]
    return float(np.mean([2 * (own & true).sum() / (own.sum() + true.sum()) for own, true in found if own.any() or true.any()]))


def truth_of(case: dict[str, Any], training: Training, folder: Path) -> None:
    """What nnU-Net answered as the mask of its image: the values that it would export."""
    image: Any = nib.load(case["files"][0])
    values = np.load(case["out"])["classes"].astype(np.uint8)
    mask = nib.Nifti1Image(values, image.affine)
    if training.reader.endswith("WithReorient"):
        # The answer lies on the reoriented grid; the mask may be stored on it.
        mask = nib.Nifti1Image(values, nib.as_closest_canonical(image).affine)
    mask.header.set_xyzt_units("mm")
    folder.mkdir(exist_ok=True)
    nib.save(mask, folder / Path(case["files"][0]).name.replace("_0000", ""))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--env", type=Path, default=ROOT / ".venv-nnunet", help="environment with nnunetv2; made where it is missing")
    parser.add_argument("--work", type=Path, help="keep models, volumes and corpora here")
    parser.add_argument("--only", default="", help="a regular expression: cases and runs whose names hold it")
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    python = environment(asked.env)
    with tempfile.TemporaryDirectory() as temporary:
        work = (asked.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        chosen = [case for case in CASES if re.search(asked.only, case.name)]
        told = [case.written(work) for case in chosen]
        ask_nnunet(python, told, work)
        print(f"{'':67} {'largest':>8} {'one':>9} {'several':>9} {'half':>9}   (largest logit; differences by windows a batch)")
        fitting = [compare(case, each) for case, each in zip(chosen, told, strict=True)]
        runs = {
            "folds": replace(FULL, transpose=(1, 0, 2), spacing=(1.5, 2.5, 1.0), folds=(0, 1)),
            "2d-regions": replace(FLAT, network="ResidualEncoderUNet", labels=REGIONS, order=(1, 2, 3), reader="NibabelIOWithReorient"),
        }
        fitting += [whole_run(name, training, python, work) for name, training in runs.items() if re.search(asked.only, name)]
    print(f"{sum(fitting)} of {len(fitting)} as they have to be")
    return 0 if all(fitting) else 1


if __name__ == "__main__":
    sys.exit(main())
