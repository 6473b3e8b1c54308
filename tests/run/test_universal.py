"""Universal perturbations through whole runs: fitted while planning, the same whatever happens meanwhile, verified, forgotten."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from tests.conftest import CLASSIFIER, InlinePool, Said, draw_pictures, quiet, save_victim, tiny_spec
from tests.run.test_tasks import UNET, chest, segmentation_spec

from medadv.attacks import universal
from medadv.batches import fitting
from medadv.common.errors import IntegrityError, SpecError, StoppedError
from medadv.common.hashing import hash_array, hash_bytes, hash_file
from medadv.common.stop import Stop
from medadv.compare.compare import compare
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import manifest_bytes, read_manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.rescore import rescore
from medadv.evidence.verify import find_damage, verify
from medadv.plan.fitted import fits_of
from medadv.plan.frozen import generations
from medadv.prepare.describe import describe
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run.forget import forget
from medadv.run.part import freeze_plan, run_part
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")

ATTACK = {"attack": "universal", "epsilon": 8, "step": 2, "steps": 3, "fit": {"split": "train"}}
FITTED, ATTACKED = 6, 6


def write_data(folder: Path, count: int = FITTED + ATTACKED, fitted: int = FITTED) -> None:
    """Pictures of patients, two a patient; the first of them are fitted to."""
    draw_pictures(folder / "data", count)
    table = folder / "data" / "labels.csv"
    head, *rows = table.read_text().splitlines()
    rows = [row.replace(",test", ",train") if number < fitted else row for number, row in enumerate(rows)]
    table.write_text("\n".join([head, *rows]) + "\n")


def write_case(folder: Path, attacks: dict[str, Any] | None = None, **changes: Any) -> Path:
    write_data(folder)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return tiny_spec(folder, attacks=attacks or {"one": ATTACK}, data__group="patient", data__split={"use": "test"}, **changes)


def shared(corpus: Path, name: str = "one") -> np.ndarray:
    with h5py.File(corpus / "attacks" / f"{name}.h5") as file:
        return file["perturbation"][...]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus with a universal attack and PGD; read only."""
    folder = tmp_path_factory.mktemp("universal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medadv.run.cluster.connect", lambda *_, **__: nullcontext(InlinePool()))
        pgd = {"attack": "pgd", "epsilon": 8, "step": 2, "steps": 2}
        return run(write_case(folder, {"one": ATTACK, "each": pgd}), Options(), quiet).corpus


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    """A copy of it with its inputs."""
    shutil.copytree(made.parent, tmp_path / "copy")
    return tmp_path / "copy" / "corpus"


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


class Killed(BaseException):
    """What no handler expects."""


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, how: Callable[[], None]) -> None:
    step, count = universal.step, iter(range(at))

    def steps(*args: Any) -> torch.Tensor:
        if next(count, None) is None:
            how()
        return step(*args)

    monkeypatch.setattr(universal, "step", steps)


def test_a_stopped_planning_goes_on_with_the_same_bits(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_case(tmp_path)
    stop = Stop()
    with monkeypatch.context() as patch:
        interrupt(patch, 4, lambda: stop.note(signal.SIGTERM))
        with pytest.raises(StoppedError, match="what was fitted so far is kept"):
            run(spec, Options(), quiet, stop)
    kept = tmp_path / "corpus" / ".medadv" / "fits" / "one"
    assert json.loads(kept.read_bytes().partition(b"\n")[0])["place"] == 5
    assert not (tmp_path / "corpus" / "attacks").exists()
    with monkeypatch.context() as patch:
        interrupt(patch, 4, pytest.fail)
        done = run(spec, Options(), quiet)
    np.testing.assert_array_equal(shared(done.corpus), shared(made))
    assert (done.corpus / "attacks" / "one.h5").read_bytes() == (made / "attacks" / "one.h5").read_bytes()
    assert not kept.parent.exists()
    assert verify(done.corpus) == []


def test_a_killed_planning_goes_on_with_the_same_bits(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed for good, in a process of its own, between two states that were kept."""
    spec = write_case(tmp_path)
    code = (
        "import os, signal, sys; from pathlib import Path; from medadv.attacks import universal; from medadv.batches import fitting\n"
        "from medadv.run.run import run; from medadv.prepare.request import Options; from medadv.common.progress import SILENT\n"
        "step, count, save, saved = universal.step, iter(range(5)), fitting._save, iter(range(3)); fitting.SAVE_EVERY_S = 0\n"
        "universal.step = lambda *a: step(*a) if next(count, None) is not None else os.kill(os.getpid(), signal.SIGKILL)\n"
        "fitting._save = lambda *a: save(*a) if next(saved, None) is not None else None\n"
        "run(Path(sys.argv[1]), Options(), SILENT)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code, str(spec)], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    kept = Workspace(tmp_path / "corpus").fits / "one"
    assert json.loads(kept.read_bytes().partition(b"\n")[0])["place"] == 3
    interrupt(monkeypatch, 6, pytest.fail)
    done = run(spec, Options(), quiet)
    np.testing.assert_array_equal(shared(done.corpus), shared(made))


def test_a_state_of_another_fit_or_a_damaged_one_is_passed_over(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, spec = Stop(), write_case(tmp_path, execution__seed=4)
    with monkeypatch.context() as patch:
        interrupt(patch, 4, lambda: stop.note(signal.SIGTERM))
        with pytest.raises(StoppedError):
            run(spec, Options(), quiet, stop)
    kept = Workspace(tmp_path / "corpus").fits / "one"
    spec = write_case(tmp_path)
    done = run(spec, Options(), quiet)
    np.testing.assert_array_equal(shared(done.corpus), shared(made))
    shutil.rmtree(done.corpus)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"{")
    np.testing.assert_array_equal(shared(run(spec, Options(), quiet).corpus), shared(made))


def test_parts_and_frozen_plans_share_what_was_fitted(tmp_path: Path, made: Path) -> None:
    spec = write_case(tmp_path)
    freeze_plan(spec, Options(), quiet, Stop())
    corpus = tmp_path / "corpus"
    np.testing.assert_array_equal(shared(corpus), shared(made))
    before = (corpus / "attacks" / "one.h5").read_bytes()
    run_part(spec, "1/2", Options(), quiet, Stop())
    # A run may have died between its plan and what it publishes.
    shutil.rmtree(corpus / "attacks")
    run_part(spec, "2/2", Options(), quiet, Stop())
    result = run(spec, Options(), quiet)
    assert (corpus / "attacks" / "one.h5").read_bytes() == before
    assert verify(corpus) == []
    assert result.manifest.content_root != read_manifest(Workspace(made)).content_root  # other attacks, other keys
    assert [entry.samples for entry in result.manifest.shards] == [4, 2]


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


@pytest.mark.parametrize("drop", [False, True])
def test_a_group_in_both_splits_is_refused_or_dropped(drop: bool, tmp_path: Path) -> None:
    spec = write_case(tmp_path, data__group_conflict="drop" if drop else "error")
    table = tmp_path / "data" / "labels.csv"
    # p2 is fitted in one of its images, and attacked in the other.
    table.write_text(table.read_text().replace("005.png,1,p2,train", "005.png,1,p2,test"))
    if not drop:
        with pytest.raises(SpecError, match=r"1 groups .* also stand in other splits: correct the splits, or set data.group_conflict"):
            run(spec, Options(), quiet)
        assert not (tmp_path / "corpus").exists()
        return
    manifest = run(spec, Options(), quiet).manifest
    assert (manifest.samples, manifest.universal["one"].samples) == (6, 4)


def test_an_image_that_is_fitted_and_attacked_is_refused_without_groups(tmp_path: Path) -> None:
    spec = write_case(tmp_path)
    values = yaml.safe_load(spec.read_text())
    del values["data"]["group"]
    spec.write_text(yaml.safe_dump(values))
    shutil.copy(tmp_path / "data" / "011.png", tmp_path / "data" / "001.png")
    said = r"attacks.one.fit.split='train': 1 groups \(1 samples\) of split 'train' also stand in the split that is attacked, 'test'"
    with pytest.raises(SpecError, match=said):
        run(spec, Options(), quiet)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__split": None}, "data.split does not say which samples are attacked"),
        ({"data__split": {"use": "train"}}, "its samples are attacked, and what is fitted must be others"),
        ({"data__split": {"use": "test", "ignore": ["train"]}}, "is no split"),
        ({"attacks": {"one": {**ATTACK, "fit": {"split": "nobody"}}}}, r"attacks.one.fit.split='nobody': no usable sample"),
        ({"attacks": {"one": {**ATTACK, "fit": {"part": 3}}}}, "split"),
    ],
)
def test_splits_that_cannot_be_fitted_are_refused_in_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_case(tmp_path)
    asked = {"data__split": {"use": "test"}, "attacks": {"one": ATTACK}, **changes}
    with pytest.raises(SpecError, match=said) as error:
        run(tiny_spec(tmp_path, **asked), Options(), quiet)
    assert "\n" not in str(error.value)


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


def test_a_wrong_byte_is_found(corpus: Path) -> None:
    path = corpus / "attacks" / "one.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [str(finding) for finding in find_damage(corpus)] == ["attacks/one.h5: bytes differ from the manifest"]


def resigned(corpus: Path, **changes: Any) -> None:
    """A manifest that covers what lies in `attacks`, as whoever changes a corpus can write it."""
    manifest = read_manifest(Workspace(corpus))
    files = {**manifest.files, "attacks/one.h5": hash_file(corpus / "attacks" / "one.h5")}
    data = manifest_bytes(manifest.model_copy(update={"files": files, **changes}))
    (corpus / "manifest.json").write_bytes(data)
    (corpus / "manifest.json.sha256").write_text(f"{hash_bytes(data)}  manifest.json\n")


def found(corpus: Path) -> str:
    return "\n".join(str(each) for each in find_damage(corpus) if each.file != "croissant.json")


def test_another_perturbation_is_found_whatever_the_manifest_covers(corpus: Path) -> None:
    with h5py.File(corpus / "attacks" / "one.h5", "r+") as file:
        one = file["perturbation"][...]
        one[0, 3, 3] = 9
        file["perturbation"][...] = one
    resigned(corpus)
    said = found(corpus)
    assert "is not the perturbation that the manifest names" in said
    assert "perturbation of 9 is larger than epsilon 8" in said
    with pytest.raises(IntegrityError, match="another perturbation than was planned with"):
        reproduce(corpus, None)
    facts = read_manifest(Workspace(corpus)).universal["one"]
    one[0, 3, 3] = 1
    one[0, 4, 4] = 0 if one[0, 4, 4] else 5
    with h5py.File(corpus / "attacks" / "one.h5", "r+") as file:
        file["perturbation"][...] = one
    resigned(corpus, universal={"one": facts.model_copy(update={"perturbation_sha256": hash_array(one)})})
    # The shards tell: no sample was given this one.
    assert "is not what all samples of one share, inside the sample's bounds" in found(corpus)
    assert not reproduce(corpus, None).equal


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.create_dataset("more", data=[1]), "holds more, or something else"),
        (lambda file: file.attrs.create("unit", "metres"), "attribute unit"),
        (lambda file: file.attrs.create("epsilon", 9.0), "attribute epsilon is 9.0, not 8.0"),
        (lambda file: file.attrs.create("parameters", "{}"), "settings of one differ"),
        (lambda file: file.__setitem__("link", h5py.SoftLink("/perturbation")), "is a link that leads elsewhere"),
        (lambda file: (file.__delitem__("perturbation"), file.create_dataset("perturbation", data=[1.0])), "has shape"),
        (lambda file: (file.__delitem__("perturbation"), file.create_dataset("perturbation", data=np.zeros((3, 32, 32)))), "is float64"),
    ],
)
def test_what_is_no_perturbation_is_not_read(spoil: Callable[[Any], Any], said: str, corpus: Path) -> None:
    with h5py.File(corpus / "attacks" / "one.h5", "r+") as file:
        spoil(file)
    resigned(corpus)
    assert said in found(corpus)


def test_a_manifest_that_leaves_it_out_is_found(corpus: Path) -> None:
    resigned(corpus, universal={})
    assert "says nothing of what one shares" in found(corpus)


def test_forgetting_who_was_fitted_fits_again_and_makes_all_shards_anew(corpus: Path) -> None:
    workspace = Workspace(corpus)
    before = shared(corpus)
    home = fits_of(generations(workspace.plans))["one"]
    gone = home.samples.samples[0]
    said = Said()
    result = forget(corpus, gone.group, Options(), said)
    assert any("one was fitted to it too" in line for line in said)
    assert result.new_shards == 2
    assert result.manifest.samples == ATTACKED
    assert result.manifest.universal["one"].samples == FITTED - 2
    assert result.manifest.generations[-1].replaces == [0, 1]
    assert (shared(corpus) != before).any()
    assert verify(corpus) == []
    assert reproduce(corpus, None).equal
    left = b"".join(path.read_bytes() for path in corpus.rglob("*") if path.is_file() and path.name not in ("forgotten.json", "run.jsonl"))
    assert gone.id.encode() not in left
    assert gone.group.encode() not in left
    # What was fitted without the group is what a corpus without it would have.
    again = run(corpus.parent / "spec.yaml", Options(), quiet)
    assert again.new_shards == 0
    alone = corpus.parent / "alone"
    shutil.copytree(corpus.parent / "data", alone / "data")
    table = alone / "data" / "labels.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if f",{gone.source.group}," not in line) + "\n")
    shutil.copy(corpus.parent / "victim.safetensors", alone)
    shutil.copy(corpus.parent / "spec.yaml", alone)
    np.testing.assert_array_equal(shared(run(alone / "spec.yaml", Options(), quiet).corpus), shared(corpus))


def test_a_forget_that_is_killed_while_it_fits_is_told_of_and_goes_on(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = fits_of(generations(Workspace(corpus).plans))["one"]
    group, before = home.samples.samples[0].group, shared(corpus)
    with monkeypatch.context() as patch:

        def die() -> None:
            raise Killed

        interrupt(patch, 3, die)
        with pytest.raises(Killed):
            forget(corpus, group, Options(), quiet)
    np.testing.assert_array_equal(shared(corpus), before)
    assert verify(corpus) == []
    said = Said()
    run(corpus.parent / "spec.yaml", Options(), said)
    assert any("is not done" in line for line in said)
    forget(corpus, group, Options(), quiet)
    assert (shared(corpus) != before).any()
    assert verify(corpus) == []


def test_who_was_attacked_is_forgotten_without_another_fit(corpus: Path) -> None:
    with h5py.File(corpus / "shards" / "shard-00000.h5") as file:
        group = file["group_id"][0].decode()
    before = (corpus / "attacks" / "one.h5").read_bytes()
    result = forget(corpus, group, Options(), quiet)
    assert result.manifest.samples == ATTACKED - 2
    assert (corpus / "attacks" / "one.h5").read_bytes() == before
    assert verify(corpus) == []


def test_new_images_are_given_what_the_first_plan_fitted(corpus: Path) -> None:
    before = (corpus / "attacks" / "one.h5").read_bytes()
    write_data(corpus.parent, 16)
    said = Said()
    result = run(corpus.parent / "spec.yaml", Options(), said)
    assert any("nothing is fitted again" in line for line in said)
    assert result.manifest.samples == ATTACKED + 4
    assert (corpus / "attacks" / "one.h5").read_bytes() == before
    assert verify(corpus) == []
    table = corpus.parent / "data" / "labels.csv"
    # A patient that was fitted is not attacked later.
    table.write_text(table.read_text().replace(",p0,train", ",p0,test"))
    with pytest.raises(SpecError, match=r"1 groups \(2 samples\) of split 'test' were fitted by a universal"):
        run(corpus.parent / "spec.yaml", Options(), quiet)


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


def test_a_fit_may_run_out_of_readable_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_case(tmp_path)
    read = fitting.batches

    def without_first(*args: Any) -> Any:
        for number, batch in enumerate(read(*args)):
            if number == 0 and len(args[0].samples) == FITTED:
                (tmp_path / "data" / "000.png").write_bytes(b"no picture any more")
            yield replace(batch)

    monkeypatch.setattr(fitting, "batches", without_first)
    result = run(spec, Options(), said := Said())
    assert result.manifest.universal["one"].samples == FITTED - 1
    assert any("one was fitted to 5 samples; 1 could not be read" in line for line in said)
