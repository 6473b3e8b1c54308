"""Universal perturbations through whole runs: what is made, published and told."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from tests.conftest import CLASSIFIER, quiet, save_victim, tiny_spec
from tests.run.test_tasks import UNET, chest, polyps, segmentation_spec
from tests.run.universal_cases import ATTACK, ATTACKED, FITTED, made_in, shared, write_case, write_data

from medadv.attacks import universal
from medadv.common.errors import SpecError
from medadv.common.hashing import hash_array, hash_file
from medadv.compare.compare import compare
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.rescore import rescore
from medadv.evidence.verify import verify
from medadv.plan.fitted import fits_of
from medadv.plan.frozen import generations
from medadv.prepare.describe import describe
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus with a universal attack and PGD; read only."""
    return made_in(tmp_path_factory.mktemp("universal"))


def test_a_corpus_whose_samples_share_one_perturbation(made: Path) -> None:
    manifest = read_manifest(Workspace(made))
    assert verify(made) == []
    assert reproduce(made, None, data=made.parent / "data").equal
    assert rescore(made, [], False, quiet) == []
    one, facts = shared(made), manifest.universal["one"]
    assert (one.shape, one.dtype, np.abs(one).max()) == ((3, 32, 32), np.int8, 8)
    assert facts.perturbation_sha256 == hash_array(one)
    assert (facts.samples, facts.forward_passes, facts.backward_passes) == (FITTED, 3, 3)
    assert manifest.files["attacks/one.h5"] == hash_file(made / "attacks" / "one.h5")
    assert manifest.samples == ATTACKED
    for entry in manifest.shards:
        with h5py.File(made / entry.path) as file:
            image = file["image"][...].astype(int)
            np.testing.assert_array_equal(file["attacks/one/perturbation"][...], np.clip(image + one, 0, 255) - image)
    assert (manifest.sanity is not None and manifest.sanity.attack) == "each"


def test_it_says_what_it_is_and_leads_back_to_nobody(made: Path) -> None:
    with h5py.File(made / "attacks" / "one.h5") as file:
        assert list(file) == ["perturbation"]
        assert file["perturbation"].fletcher32
        said = dict(file.attrs)
    assert json.loads(said.pop("parameters")) == read_manifest(Workspace(made)).attacks["one"].model_dump(mode="json")
    assert said == {
        "format": "medadv",
        "format_version": 1,
        "attack": "universal",
        "unit": "level8",
        "epsilon": 8.0,
        "norm": "linf",
        "fitted_samples": FITTED,
    }
    fits = fits_of(generations(Workspace(made).plans))["one"]
    published = b"".join(path.read_bytes() for path in made.rglob("*") if path.is_file() and ".medadv" not in path.parts)
    for sample in fits.samples.samples:
        assert sample.id.encode() not in published
        assert sample.group.encode() not in published


def test_the_same_bits_by_hand(made: Path) -> None:
    """The loop in three lines, over the batches as planned."""
    plan = generations(Workspace(made).plans)[0]
    home = fits_of([plan])["one"]
    from medadv.batches.equipment import equip
    from medadv.batches.judging import batch_of
    from medadv.batches.loading import batches

    equipment, settings = equip(made, 0, (3, 32, 32), False), plan.settings.attacks["one"]
    victim, delta = equipment.victim, torch.zeros(3, 32, 32)
    for number in range(3):
        for place, batch in enumerate(batches(home.samples, equipment.reader, victim.scored)):
            part = batch_of(batch.loaded, victim.scored, torch.device("cpu"))
            targets = victim.attacked.targets(part.labels, torch.device("cpu"), "untruth")
            whole = universal.Problem.of(victim.attacked, part.images, targets, settings, part.lattice, None, None)
            delta = universal.step(whole, delta, None, (3 * number + place) / 9)
    np.testing.assert_array_equal(delta.numpy(), shared(made))


def test_a_plan_tells_what_is_fitted(made: Path, tmp_path: Path) -> None:
    facts = describe(made.parent / "spec.yaml", Options(out=tmp_path / "other"), quiet)
    assert (facts["forward_passes_per_sample"], facts["backward_passes_per_sample"]) == (2, 2)
    assert (facts["fitted_samples"], facts["fitting_forward_passes"], facts["fitting_backward_passes"]) == (FITTED, 3 * FITTED, 3 * FITTED)
    assert facts["estimated_seconds"] is not None
    assert not (tmp_path / "other").exists()
    assert "fitted_samples" not in describe(made.parent / "spec.yaml", Options(), quiet)


def test_held_out_samples_fall_to_it_and_not_to_noise(tmp_path: Path) -> None:
    """Where there is nothing but a universal attack, the sanity checks hold it against noise of the same size."""
    write_data(tmp_path, 24, 12)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    attack = {**ATTACK, "epsilon": 12, "steps": 10, "step": 1}
    spec = tiny_spec(tmp_path, attacks={"one": attack}, data__split={"use": "test"}, data__label="none", sanity_samples=8)
    manifest = run(spec, Options(), quiet).manifest
    assert manifest.sanity is not None
    assert manifest.sanity.noise is not None
    assert manifest.sanity.warnings == []
    assert manifest.sanity.epsilon_ladder is None
    success = manifest.metrics["one"].success
    assert success is not None
    assert success >= 0.3
    assert success > manifest.sanity.noise.success + 0.2


def test_images_of_several_shapes_are_refused(tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 4), count=2)
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": 2, **UNET})
    spec = shapes(tmp_path, (24, 32, 4))
    with pytest.raises(SpecError, match=r"attacks.one.fit.split='fitted': one perturbation .* \[1, 24, 32\], \[1, 32, 32\]"):
        run(spec, Options(), quiet)


def shapes(folder: Path, other: tuple[int, int, int], axes: int = 2) -> Path:
    """CT volumes in `training`, and others of a shape of their own in `fitted`."""
    chest(folder / "more", other, count=2)
    document = json.loads((folder / "data" / "dataset.json").read_text())
    fitted = json.loads((folder / "more" / "dataset.json").read_text())["training"]
    for number, record in enumerate(fitted):
        for key in ("image", "label"):
            source = folder / "more" / record[key]
            record[key] = f"more-{number}-{key}.nii.gz"
            # Grey levels of their own, so that they are other images.
            _brighter(source, folder / "data" / record[key], 1 if key == "image" else 0)
    document["fitted"] = fitted
    (folder / "data" / "dataset.json").write_text(json.dumps(document))
    path = segmentation_spec(folder, axes)
    spec = yaml.safe_load(path.read_text())
    spec["data"]["split"] = {"use": "training"}
    spec["attacks"] = {"one": {**ATTACK, "epsilon": 60, "step": 15, "fit": {"split": "fitted"}}}
    path.write_text(yaml.safe_dump(spec))
    return path


def _brighter(source: Path, aim: Path, by: int) -> None:
    import nibabel as nib

    volume = nib.load(source)
    nib.save(nib.Nifti1Image((np.asarray(volume.dataobj) + by).astype(np.asarray(volume.dataobj).dtype), volume.affine), aim)


@pytest.mark.parametrize("axes", [2, 3])
def test_masks_of_slices_and_of_volumes(axes: int, tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 8), count=2)
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": axes, **UNET})
    result = run(shapes(tmp_path, (32, 32, 8), axes), Options(), quiet)
    assert verify(result.corpus) == []
    assert reproduce(result.corpus, None).equal
    assert shared(result.corpus).shape == ((1, 32, 32) if axes == 2 else (1, 32, 32, 8))


def test_boxes(tmp_path: Path) -> None:
    path = polyps(tmp_path)
    boxes = json.loads((tmp_path / "data" / "boxes.json").read_text())
    for number, image in enumerate(boxes["images"]):
        image["split"] = "train" if number < 2 else "test"
    boxes["annotations"].append({**boxes["annotations"][0], "id": 2, "image_id": 2})
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(boxes))
    spec = yaml.safe_load(path.read_text())
    spec["data"]["split"], spec["attacks"] = {"use": "test"}, {"one": ATTACK}
    path.write_text(yaml.safe_dump(spec))
    result = run(path, Options(), quiet)
    assert verify(result.corpus) == []
    assert reproduce(result.corpus, None).equal
    assert result.manifest.universal["one"].samples == 2
    assert shared(result.corpus).any()


def test_what_auto_stands_for_is_found_by_what_costs_the_same(tmp_path: Path) -> None:
    result = run(write_case(tmp_path, execution__batch_size="auto", execution__precision="auto", execution__shard_size=8), Options(), quiet)
    assert verify(result.corpus) == []
    assert result.manifest.execution.batch_size == 8
    assert reproduce(result.corpus, None).equal


def test_the_report_says_what_it_is_and_whom_it_follows(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    write_report(tmp_path / "copy")
    page = (tmp_path / "copy" / "report.html").read_text()
    assert "one perturbation for all samples" in page
    assert "fitted to the split" in page
    assert "arXiv:1811.11304" in page


def test_others_may_start_from_it_and_it_may_have_a_goal(tmp_path: Path) -> None:
    pgd = {"attack": "pgd", "epsilon": 8, "step": 2, "steps": 1, "start": "one"}
    spec = write_case(tmp_path, {"on": pgd, "one": {**ATTACK, "goal": {"class": 1}}})
    result = run(spec, Options(), quiet)
    assert verify(result.corpus) == []
    assert reproduce(result.corpus, None).equal
    with h5py.File(result.corpus / "shards" / "shard-00000.h5") as file:
        moved = file["attacks/on/perturbation"][...].astype(int) - file["attacks/one/perturbation"][...]
        assert np.abs(moved).max() <= 2
        assert "attackable" in file["attacks/one"]


def test_compared_attacks_are_fitted_to_as_many_samples(made: Path, tmp_path: Path) -> None:
    done = compare(made.parent / "spec.yaml", tmp_path, 4, [], False, quiet)
    row = next(row for row in done.rows if row.attack == "one")
    assert row.passes == (0, 0)
    assert row.sizes["cosine"] is None
    about = json.loads((tmp_path / "tiny.json").read_text())
    assert about["fitted_samples"] == {"one": 4}
