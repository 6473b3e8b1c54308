"""What tests of several rooms share: where real data lies, and tiny data sets with victims that need no training."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from medadv.common.progress import SILENT
from medadv.victims.sources.registry import build_network
from medadv.victims.victim import Identity, TaskModel, Victim

SIZE = 32
NO_PLAN = "0" * 64
CLASSIFIER = {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, "init_features": 8, "growth_rate": 4, "block_config": [2, 2]}

LONGEST = (
    "run/test_cluster.py",
    "run/test_schedule.py",
    "training/test_augmentation.py",
    "training/test_check_flips.py",
    "docs/test_documents.py",
    "run/test_security.py",
    "run/test_stopping.py",
    "run/test_deaths.py",
    "evidence/test_damaged_bytes.py",
    "corpus/test_fuzz_corpus.py",
    "evidence/test_beside_a_run.py",
    "demo/test_training.py",
    "evaluate/test_evaluate.py",
    "hardening/test_harden.py",
    "run/test_universal_changed.py",
    "run/test_universal_fits.py",
)
"""Files of few tests that take long. Begun last, one of them keeps a process busy for minutes after all others are done."""


def load_script(name: str) -> ModuleType:
    """A script as a module.  name: its path under scripts/.

    It is found by its own name afterwards: dataclasses look their module up, and so do processes that it starts.
    """
    path = Path(__file__).resolve().parents[1] / "scripts" / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others in their order."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.is_relative_to(here) and item.path.relative_to(here).as_posix() not in LONGEST)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images: MEDADV_DATA, else shared/data beside the checkout; skips visibly where there is none."""
    folder = Path(os.environ.get("MEDADV_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real images: set MEDADV_DATA")
    return folder


def draw_pictures(folder: Path, count: int, *, size: int = SIZE, seed: int = 0) -> Path:
    """`count` smooth random PNG photographs in two classes and a labels.csv with file, grade, patient and split."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["file,grade,patient,split"]
    for index in range(count):
        generator = np.random.default_rng([seed, index])
        coarse = Image.fromarray(generator.integers(40, 216, (4, 4, 3), np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{index:03d}.png")
        rows.append(f"{index:03d}.png,{index % 2},p{index // 2},test")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def save_victim(path: Path, network: str, arguments: dict[str, Any], seed: int = 0) -> Path:
    """Random weights: a victim whose predictions flip easily."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_file(build_network(network, arguments).state_dict(), path)
    return path


def tiny_spec(folder: Path, **changes: Any) -> Path:
    """A run spec for pictures in `folder`/data with a DenseNet of a few thousand weights; dotted keys change settings."""
    spec: dict[str, Any] = {
        "name": "tiny",
        "data": {"modality": "fundus", "task": "classification", "layout": "csv", "path": "data/labels.csv", "label": "grade"},
        "preprocess": {"size": [SIZE, SIZE]},
        "victim": {
            "network": "monai:densenet121",
            "arguments": dict(CLASSIFIER),
            "weights": "victim.safetensors",
            "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3},
        },
        "attacks": {
            "pgd-8": {"attack": "pgd", "epsilon": 8, "step": 2, "steps": 3},
            "smia-8": {"attack": "smia", "epsilon": 8, "step": 2, "steps": 3},
        },
        "execution": {"batch_size": 2, "shard_size": 4, "workers": 1},
        "sanity_samples": 2,
        "output": "corpus",
    }
    for key, value in changes.items():
        # `a__b` stands for the nested key; attack names keep their single hyphens.
        *parents, last = key.split("__")
        place = spec
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def plainly(model: TaskModel) -> Victim:
    """A model as a victim that is attacked as it is scored."""
    return Victim(model, model, Identity("0" * 64, None, 0))


quiet = SILENT
"""Progress that nobody watches."""


class Said(list[str]):
    """Progress that keeps what it is told in words."""

    def __call__(self, phase: str, done: int, total: int, text: str = "") -> None:
        self.append(text)

    def message(self, text: str) -> None:
        self.append(text)


class InlinePool:
    """A pool without workers: a task is done when its result is asked for."""

    about = "inline"

    def __init__(self) -> None:
        self.tasks: list[tuple[str, Any, tuple[Any, ...]]] = []

    def submit(self, name: str, function: Any, *arguments: Any) -> None:
        self.tasks.append((name, function, arguments))

    def wait(self, _: float) -> tuple[str, Any, BaseException | None]:
        name, function, arguments = self.tasks.pop(0)
        try:
            return name, function(*arguments), None
        except Exception as error:
            return name, None, error

    def window(self) -> int:
        return 1


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make shards in this process: what Dask adds is tested where it matters, and costs seconds a run."""
    from medadv.run import cluster

    monkeypatch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have this machine tell the instructions of another processor, whatever the variables say that hold it back."""

    def tell(*instructions: str) -> None:
        for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True), raising=False)

    return tell


@pytest.fixture
def two_threads() -> Iterator[None]:
    """With one thread torch keeps fp32 convolutions of one tap from oneDNN, and its own 3D ones answer channels first."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus of ten 32-pixel pictures in three shards; read only, copy it before changing it."""
    from medadv.prepare.request import Options
    from medadv.run.run import run

    folder = tmp_path_factory.mktemp("tiny")
    draw_pictures(folder / "data", 10)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    result = run(tiny_spec(folder), Options(), quiet)
    assert result.exit_code == 0
    return result.corpus


@pytest.fixture(scope="session")
def ct_slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of the slices of two CT volumes, with masks; read only."""
    from tests.export.export_cases import nifti_corpus

    return nifti_corpus(tmp_path_factory.mktemp("slices"), 2)


@pytest.fixture(scope="session")
def ct_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two CT volumes, with masks; read only."""
    from tests.export.export_cases import nifti_corpus

    return nifti_corpus(tmp_path_factory.mktemp("volumes"), 3)


@pytest.fixture(scope="session")
def ct_series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of the slices of one DICOM series whose headers say that nothing is burnt in or was compressed with loss; read only."""
    from tests.export.export_cases import dicom_corpus

    return dicom_corpus(tmp_path_factory.mktemp("series"), 2, BurnedInAnnotation="NO", LossyImageCompression="00")


def manifest_by_hand(shard: Path, samples: int, epsilon: float, *, modality: str = "ct", task: str = "segmentation") -> dict[str, Any]:
    """A whole manifest of one hand-written shard with one attack, `a`; the shard's attribute `plan` is NO_PLAN."""
    empty = NO_PLAN
    hashes = {"sha256": empty, "receipt_sha256": empty, "content_root": empty}
    normalize = {"mean": None, "std": None, "window": [-1000, 400]}
    inference = {"window": None, "overlap": 0.25, "window_mode": "constant", "window_batch": 4, "score_threshold": 0.5}
    facts = {"label": "given", "label_map": None, "classes": None, "licence": None, "split": None}
    identity = {"weights_sha256": empty, "program_sha256": None, "parameters": 1}
    network = {"network": "monai:unet", "arguments": {}, "head": "softmax"}
    execution = {"batch_size": 1, "shard_size": samples, "threads": 1, "device": "cpu", "precision": "fp32", "codec": "gzip", "seed": 0}
    return {
        "format": "medadv",
        "format_version": 1,
        "name": "volumes",
        "content_root": empty,
        "samples": samples,
        "quarantined": 0,
        "shards": [{"path": "shards/shard-00000.h5", "bytes": shard.stat().st_size, "samples": samples, "generation": 0, **hashes}],
        "files": {},
        "generations": [{"plan": empty, "shards": 1, "samples": samples}],
        "data": {"modality": modality, "task": task, "unit": "hu" if modality == "ct" else "level8", **facts},
        "preprocess": {},
        "victim": {**network, "normalize": normalize, **inference, **identity},
        "attacks": {"a": {"attack": "pgd", "epsilon": epsilon}},
        "execution": execution,
        "metrics": {},
        "determinism": {"level": "tolerance", "repeated": [], "holds_for": "this test"},
        "environment": {},
        "tool": {},
        "privacy": {},
        "run": {"command": "by hand", "started": "", "finished": "", "status": "complete", "shards_missing": 0},
    }
