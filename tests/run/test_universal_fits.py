"""A universal perturbation is the same whatever happens while it is fitted, and is fitted to nobody who is attacked."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.conftest import Said, quiet, tiny_spec
from tests.run.universal_cases import ATTACK, FITTED, interrupt, made_in, shared, write_case

from medadv.batches import fitting
from medadv.common.errors import SpecError, StoppedError
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.evidence.verify import verify
from medadv.prepare.describe import facts_of
from medadv.prepare.request import Options
from medadv.run.part import freeze_plan, run_part
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished corpus with a universal attack and PGD; read only."""
    return made_in(tmp_path_factory.mktemp("universal"))


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
        "import os, signal, sys; from pathlib import Path\n"
        "import medadv.attacks.universal as universal, medadv.batches.fitting as fitting\n"
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
    # What was fitted is not to be fitted once more.
    assert "fitted_samples" not in facts_of(freeze_plan(spec, Options(), quiet, Stop()))
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


def test_two_workers_give_what_one_does(tmp_path: Path, made: Path) -> None:
    """Processes of their own, which read what was fitted from the corpus."""
    pgd = {"attack": "pgd", "epsilon": 8, "step": 2, "steps": 2}
    spec = write_case(tmp_path, {"one": ATTACK, "each": pgd}, execution__workers=2)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-m", "medadv", "run", str(spec)], env=environment, check=True, stderr=subprocess.DEVNULL)
    manifest, one = (read_manifest(Workspace(root)) for root in (tmp_path / "corpus", made))
    assert manifest.content_root == one.content_root
    assert manifest.universal == one.universal
    assert manifest.files["attacks/one.h5"] == one.files["attacks/one.h5"]


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
