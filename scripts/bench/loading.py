"""Loading throughput of all three modalities, side by side with plain MONAI, in one run.

    OMP_NUM_THREADS=1 python scripts/bench/loading.py [--rounds 5] [--write scripts/bench/LOADING.md]

Both sides give a channel-first float32 MetaTensor of the same size. They take turns file by file, first one leading and then the other,
so that both meet the same state of the machine; the files are in the page cache after an unmeasured round.
"""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import PIL
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Resized

from medadv_transforms import LoadColourd, LoadCTd

SIZE = (256, 256)


@dataclass(frozen=True)
class Workload:
    """What is loaded.  inputs: one path per image, a folder for a DICOM series."""

    name: str
    inputs: list[Any]
    ours: Callable[[dict[str, Any]], Any]
    theirs: Callable[[dict[str, Any]], Any]


def workloads(root: Path, scratch: Path) -> list[Workload]:
    """The collection's full-size images, by modality and format."""
    plain = Compose([LoadImaged("image", image_only=True), EnsureChannelFirstd("image")])
    resized = Compose([LoadImaged("image", image_only=True), EnsureChannelFirstd("image"), Resized("image", SIZE)])

    def files(pattern: str) -> list[str]:
        return [str(path) for path in sorted(root.glob(pattern))]

    fundus = LoadColourd("image", modality="fundus", size=SIZE)
    cropped = LoadColourd("image", modality="fundus", size=SIZE, fit="pad", crop=True, region_key="region", restrict_to_field=True)
    endoscopy = LoadColourd("image", modality="endoscopy", size=SIZE)
    native = LoadColourd("image", modality="endoscopy")
    ct = LoadCTd("image")
    # MONAI takes a folder with nothing but the series.
    three = scratch / "series"
    three.mkdir()
    for path in files("ct/abdomen_3slice_dicom/0*.dcm"):
        shutil.copy(path, three)

    def series(data: dict[str, Any]) -> Any:
        return ct({"image": sorted(Path(data["image"]).iterdir())})

    return [
        Workload("fundus, 4288x2848 JPEG to 256x256", files("fundus/*.jpg")[:10], fundus, resized),
        Workload("the same, ours cropped to the field of view and masked", files("fundus/*.jpg")[:10], cropped, resized),
        Workload("endoscopy, 622x529 JPEG to 256x256", files("endoscopy/polyps/images/*.jpg"), endoscopy, resized),
        Workload("endoscopy, JPEG at full size", files("endoscopy/polyps/images/*.jpg"), native, plain),
        Workload("CT volume, NIfTI gzip 256x256x137", files("train/ct/images/lidc_0314.nii.gz"), ct, plain),
        Workload("CT volume, NIfTI gzip int32 122x101x112", files("ct/abdomen_3mm/ct.nii.gz"), ct, plain),
        Workload("CT slices, NIfTI gzip 256x256", files("train/ct/images/luad_00[0-2]*.nii.gz"), ct, plain),
        Workload("CT slices, DICOM uncompressed 512x512", files("ct/luad_slices/*.dcm"), ct, plain),
        Workload("CT series, DICOM uncompressed 512x512x3", [str(three)], series, plain),
        Workload("CT series, DICOM JPEG 2000 512x512x20", [str(root / "ct/upper_abdomen_dicom_j2k")], series, plain),
        Workload("CT slice, DICOM RLE", files("ct/transfer_syntaxes/*RLE*"), ct, plain),
        Workload("CT slice, DICOM JPEG-LS", files("ct/transfer_syntaxes/*JPEGLS*"), ct, plain),
        Workload("CT slice, DICOM JPEG lossless", files("ct/transfer_syntaxes/*JPEGProcess14*"), ct, plain),
    ]


def measure(work: Workload, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds per image of both sides, one number per round; round 0 is not counted."""
    ours, theirs = [], []
    repeats = max(1, 6 // len(work.inputs))
    for number in range(rounds + 1):
        spent = [0.0, 0.0]
        for turn in range(repeats):
            for each in work.inputs:
                sides = [(0, work.ours), (1, work.theirs)]
                for side, load in sides if (number + turn) % 2 == 0 else reversed(sides):
                    start = time.perf_counter()
                    load({"image": each})
                    spent[side] += time.perf_counter() - start
        if number:
            ours.append(spent[0] / repeats / len(work.inputs))
            theirs.append(spent[1] / repeats / len(work.inputs))
    return ours, theirs


def main() -> int:
    """Measure all workloads, print the table; exit code 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    root = Path(os.environ.get("MEDADV_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not root.is_dir():
        print("no real inputs: set MEDADV_DATA", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    lines = ["| workload | images | medadv, ms | MONAI, ms | ratio (lowest to highest round) |", "|---|---|---|---|---|"]
    slower = []
    scratch = tempfile.TemporaryDirectory()
    for work in workloads(root, Path(scratch.name)):
        ours, theirs = measure(work, arguments.rounds)
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        ratio = statistics.median(ratios)
        lines.append(
            f"| {work.name} | {len(work.inputs)} | {1e3 * statistics.median(ours):.1f} | {1e3 * statistics.median(theirs):.1f} "
            f"| {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
        print(lines[-1], flush=True)
        if ratio < (2 if work.name.startswith("fundus") else 1):
            slower.append(work.name)
    scratch.cleanup()
    if arguments.write:
        arguments.write.write_text(_report(lines, arguments.rounds))
    print("slower than promised: " + ", ".join(slower) if slower else "as fast as promised")
    return 1 if slower else 0


def _report(lines: list[str], rounds: int) -> str:
    packages = {"MONAI": monai.__version__, "torch": torch.__version__.split("+")[0], "Pillow": PIL.__version__}
    versions = ", ".join(f"{name} {version}" for name, version in {**packages, "Python": platform.python_version()}.items())
    head = [
        "# Loading, side by side with plain MONAI",
        "",
        f"`OMP_NUM_THREADS=1 python scripts/bench/loading.py --rounds {rounds} --write scripts/bench/LOADING.md`",
        "",
        "Milliseconds per image, median of the rounds; both sides take turns file by file and give float32 MetaTensors of one size.",
        "MONAI: `LoadImaged`, `EnsureChannelFirstd`, and `Resized` (its default, area) where the picture is scaled. Ours does all checks.",
        "",
        f"{versions}; {os.cpu_count()} cores of {platform.machine()}, other work running on the machine.",
        "",
    ]
    return "\n".join([*head, *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
