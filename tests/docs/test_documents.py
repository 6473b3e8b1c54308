"""Every command and snippet in the documents runs, on folders as a newcomer would have them; see documents.py for the marks."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from tests.docs.documents import DOCUMENTS, NO_COMMANDS, PYTHON, ROOT, Block, blocks, commands, read
from tests.run.test_tasks import chest
from tests.training.small_corpora import detection, write_corpus
from tests.victims import small_bundles
from tests.victims.bundle_reference import write_weights

from medadv.cli.app import app
from medadv.demo.dicom_series import write_dicom_series
from medadv.prepare.request import Options
from medadv.run.run import run
from medadv.victims.importers.resolve import read_spec

ACCEPTED = (0, 3)
"""Exit codes of a command that did its work; 3 says that inputs were quarantined."""
FRAMES = 2


@pytest.fixture(scope="session")
def provisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documents take for granted: data, weights that fit the specs, and the corpora that the demo leaves, of three tasks."""
    folder = tmp_path_factory.mktemp("newcomer")
    polyp_frames(folder / "data")
    write_dicom_series(folder / "data" / "ct", np.full((16, 16, 3), 40, np.int16), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), "p1")
    (folder / "victims").mkdir()
    victim = yaml.safe_load((ROOT / "manifests/specs/polyp-detection.yaml").read_text())["victim"]
    save_victim(folder / "victims" / "polyp-fcos.safetensors", victim["network"], victim["arguments"])
    spleen(folder)
    demo = folder / "medadv-demo"
    draw_pictures(demo / "data", 8)
    save_victim(demo / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    attacks = {f"{kind}-4": {"attack": kind, "epsilon": 4, "step": 1, "steps": 2} for kind in ("pgd", "smia")}
    with pytest.MonkeyPatch.context() as patch:
        _inline(patch)
        run(tiny_spec(demo, attacks=attacks, output="corpora/fundus", sanity_samples=0), Options(), quiet)
    slices = np.random.default_rng(0).integers(-900, 400, (4, 1, 32, 24), np.int16)
    masks = (slices[:, 0] > 0).astype(np.uint8)
    write_corpus(demo / "corpora" / "ct", slices, masks, axes="xy", task="segmentation", affine=True, unit="hu")
    detection(demo / "corpora" / "endoscopy", 4)
    return folder


@pytest.fixture
def newcomer(provisions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run a document in: the provisions, and the checkout's own folders beside them."""
    folder = tmp_path / "work"
    shutil.copytree(provisions, folder)
    for name in ("manifests", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PWD", str(folder))
    # Snippets run with the names of this Python, and `medadv` is the one under test.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    _inline(monkeypatch)
    return folder


def polyp_frames(folder: Path) -> None:
    """Frames with one box each, in COCO's layout."""
    draw_pictures(folder, FRAMES, size=40)
    images = [{"id": i, "file_name": f"{i:03d}.png", "patient": f"p{i}", "split": "test"} for i in range(FRAMES)]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [8, 8, 20, 16]} for i in range(FRAMES)]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "polyp"}]}
    (folder / "annotations_coco.json").write_text(json.dumps(document))
    (folder / "labels.csv").unlink()


def spleen(folder: Path) -> None:
    """A bundle of a few layers with random weights, and two volumes in Decathlon's layout."""
    bundle = folder / "models" / "spleen_ct_segmentation"
    small_bundles.write_bundle(bundle, small_bundles.spleen(), name="inference.json")
    write_weights(bundle, "inference.json")
    chest(folder / "data" / "Task09_Spleen", (24, 20, 18))


def _inline(patch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    from tests.conftest import InlinePool

    from medadv.run import cluster

    patch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))


# MONAI's own readers warn that NVIDIA's decoder is not there.
@pytest.mark.filterwarnings("ignore:NvImgCodec")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_runs_or_says_why_not(document: str, newcomer: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(document, read(document)):
        assert block.language in NO_COMMANDS or block.is_command, f"{block.place}: language {block.language!r} is not known"
        if block.file is not None:
            Path(block.file).write_text(block.text)
        if block.is_command and block.excuse is None:
            execute(block, names)
        elif block.language == "yaml" and block.text.startswith("name:") and "attacks:" in block.text:
            # A whole spec. Parts of one, in manifests/RECIPES.md, are laid over another by test_recipes.py.
            spec = block.file or "block.yaml"
            Path(spec).write_text(block.text)
            read_spec(Path(spec))


def execute(block: Block, names: dict[str, Any]) -> None:
    """Run a block here. names: what the document's earlier Python blocks left."""
    if block.language in PYTHON:
        exec(compile(block.text, block.place, "exec"), names)
        return
    for command in commands(block.text):
        words = shlex.split(command, comments=True)
        if words[0] == "medadv":
            # In this process: what a new one adds is the import of torch, and --help is tested for that.
            code = app(words[1:], standalone_mode=False) or 0
        else:
            code = subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=False, timeout=60).returncode
        assert code in ACCEPTED, f"{block.place}: `{command}` exits with {code}"


def test_what_is_not_marked_as_a_command_holds_none() -> None:
    for document in DOCUMENTS:
        for block in blocks(document, read(document)):
            assert not block.excuse or (block.is_command and len(block.excuse) > 10), f"{block.place}: an excuse for nothing, or no reason"
            starts = ("medadv ", "./scripts/", "pip ", "$ ", "import ", "from ")
            hidden = [] if block.is_command else [line for line in block.text.splitlines() if line.strip().startswith(starts)]
            assert not hidden, f"{block.place}: {hidden[0]!r} looks like a command; mark the block sh or python"


def test_marks_hold_for_the_next_block_alone() -> None:
    text = "<!-- not run: far too long -->\n\n```sh\na\n```\n\n```sh\nb \\\n  c # d\n```\n"
    first, second, third = blocks("x.md", text + "<!-- file: x.yaml -->\nwords\n```yaml\ne: 1\n```\n")
    assert (first.excuse, second.excuse, third.file) == ("far too long", None, None)
    assert commands(second.text) == ["b c # d"]
    with pytest.raises(ValueError, match="never closed"):
        blocks("x.md", "```sh\na\n")
