"""`medadv victim`: what a spec, a folder or a checkpoint is understood as, said before anything is made."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tests.run.test_input_pipelines import PIPELINES, spec_of
from tests.run.test_tasks import polyps
from tests.victims import small_bundles
from tests.victims.bundle_reference import write_volume, write_weights
from typer.testing import CliRunner, Result

from medadv.cli.app import app
from medadv.common.errors import SpecError
from medadv.prepare.understood import understood
from medadv.spec.reading import load_spec
from medadv.victims.loading import VictimRequest


def said(*words: str) -> Result:
    return CliRunner().invoke(app, ["victim", *words])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return spec_of(tmp_path, "cropped, members, mirrored, as nnU-Net")[0]


def test_a_spec_is_told_with_its_steps_and_the_answer_to_its_first_image(spec: Path) -> None:
    answer = said(str(spec))
    assert answer.exit_code == 0
    for line in (
        "network: monai:unet",
        "  1. stored HU",
        "  2. crop: nonzero",
        "  3. clip: [-1000.0, 400.0]",
        "window: [16, 16, 8], overlap 0.5, gaussian, padded constant, places as nnunet, 1 at a time",
        "mirrored: over axes [0, 1], mean of 4",
        "classes: 2",
        "image: image0.nii.gz, 1 x 32 x 32 x 8 int16, axes xyz",
    ):
        assert line in answer.output.splitlines()
    assert "a.safetensors, SHA-256" in answer.output
    assert "b.safetensors, SHA-256" in answer.output


def test_a_detector_is_told_no_head_that_it_has_not(tmp_path: Path, spec: Path) -> None:
    assert "head: softmax" in said(str(spec)).output
    answer = said(str(polyps(tmp_path / "polyps")))
    assert answer.exit_code == 0
    assert "head:" not in answer.output


def test_the_logits_are_those_of_the_loaded_victim(spec: Path) -> None:
    import nibabel as nib

    facts = json.loads(said(str(spec), "--json").output)
    read = load_spec(spec)
    victim = VictimRequest(read.victim, "segmentation", spec.parent, x_first=True).load(torch.device("cpu"), (1, 32, 32, 8))
    stored = torch.from_numpy(nib.load(spec.parent / "data" / "image0.nii.gz").get_fdata()).float()[None, None]
    with torch.no_grad():
        logits = victim.scored.forward(stored)
    expected = f"1 x 2 x 32 x 32 x 8, {float(logits.min()):.5g} to {float(logits.max()):.5g}, mean {float(logits.mean()):.5g}"
    assert facts["logits"] == [expected]
    share = float((logits.argmax(1) == 1).double().mean())
    assert facts["answer"].endswith(f"1: {share:.2%}")


@pytest.mark.filterwarnings("ignore")
def test_a_bundles_own_tool_answers_beside_it_where_its_code_may_run(tmp_path: Path) -> None:
    """Read from a spec and from its file alike; the volume has the bundle's spacing, so both are asked about the same grid."""
    small_bundles.write_bundle(tmp_path / "model", small_bundles.spleen())
    write_weights(tmp_path / "model", "inference.json")
    (tmp_path / "images").mkdir()
    write_volume(tmp_path / "images" / "a.nii.gz", (20, 18, 17), (1.5, 1.5, 2.0))
    spec = {
        "name": "x",
        "data": {"layout": "folders", "path": "images", "image": "{id}.nii.gz", "label": "none"},
        "victim": {"bundle": "model"},
        "attacks": {"pgd": {"attack": "pgd", "epsilon": 8}},
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    facts = understood(tmp_path / "spec.yaml", trust_code=True).facts
    assert facts["logits of its own tool"] == facts["logits"]
    assert "logits of its own tool" not in understood(tmp_path / "spec.yaml").facts
    folder = understood(tmp_path / "model").facts
    assert (folder["network"], folder["preprocess.orientation"]) == ("monai:UNet", "RAS")
    assert folder["weights"] == facts["weights"]


def test_a_checkpoint_is_told_by_its_dictionaries(tmp_path: Path) -> None:
    state = {"net.conv.weight": torch.zeros(2, 3), "net.conv.bias": torch.zeros(2)}
    torch.save({"epoch": 3, "state_dict": state, "ema": {"shadow": state}}, tmp_path / "last.ckpt")
    facts = understood(tmp_path / "last.ckpt").facts
    assert facts == {
        "state_dict": "2 tensors, 8 values: net.conv.weight, net.conv.bias, …",
        "ema.shadow": "2 tensors, 8 values: net.conv.weight, net.conv.bias, …",
    }


def test_what_is_no_victim_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no folder of a trained model that is known: a MONAI bundle has configs; nnU-Net"):
        understood(tmp_path)
    torch.save({"epoch": 3}, tmp_path / "last.ckpt")
    with pytest.raises(SpecError, match="holds no dictionary of tensors"):
        understood(tmp_path / "last.ckpt")
    with pytest.raises(SpecError, match="cannot be read"):
        understood(tmp_path / "nothing.yaml")


def test_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path, _ = spec_of(tmp_path, next(iter(PIPELINES)))
    for image in (tmp_path / "data").glob("image*"):
        image.write_bytes(b"no volume")
    with pytest.raises(SpecError, match=r"no image of it can be read: image0\.nii\.gz"):
        understood(path)
