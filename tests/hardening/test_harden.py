"""A hardening is a row of corpora and of trainings, of which validation chooses one; what it leaves says so."""

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tests.conftest import InlinePool, quiet
from tests.hardening.hardening_cases import classification, detection, from_checkpoint, segmentation

from medadv.common.errors import ExitCode, LockedError, RunError, SpecError, StoppedError
from medadv.common.hashing import hash_file
from medadv.common.log import Log
from medadv.common.record import parse
from medadv.common.stop import Stop
from medadv.corpus.opening import open_corpus
from medadv.evidence.verify import verify
from medadv.hardening import measuring
from medadv.hardening.command import run_program
from medadv.hardening.folder import Home
from medadv.hardening.harden import Hardened, harden
from medadv.hardening.measuring import Measurement
from medadv.hardening.record import Hardening
from medadv.hardening.specs import settings_of
from medadv.hardening.work import Work
from medadv.prepare.request import Options
from medadv.run import cluster
from medadv.run.lock import held
from medadv.spec.reading import load_spec
from medadv.training.dataset import CorpusDataset

WEIGHTS = "weights.safetensors"
COMMAND = ["train", "{corpus}", "{weights}", "{out}", "{mode}"]


def hardened(path: Path, now: int | None = None, **options: Any) -> Hardened:
    return harden(path, Options(**options), now, quiet, Stop())


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """The bootstrap takes longer than the training of so small a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "resamples_for", lambda *_: 30)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Hardened:
    """A hardening that nobody disturbed; read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))
        return hardened(classification(tmp_path_factory.mktemp("whole"), keep="all"))


def spec_of(done: Hardened) -> Path:
    return done.folder.parent.parent / "spec.yaml"


def copied(done: Hardened, folder: Path) -> Path:
    """The spec without what was made of it."""
    shutil.copytree(spec_of(done).parent, folder, ignore=shutil.ignore_patterns("hardenings"))
    return folder / "spec.yaml"


def ids(corpus: Path) -> list[str]:
    return [item["sample_id"] for item in CorpusDataset(corpus, mode="clean", check=False)]


def test_validation_is_whole_groups_that_training_never_sees(whole: Hardened) -> None:
    first, second = (whole.folder / f"generation-00{number}" for number in (1, 2))
    trained, held_back, final = ids(first / "corpus"), ids(first / "validation"), ids(whole.folder / "final" / "chosen")
    assert trained == ids(second / "corpus")
    assert held_back == ids(second / "validation") == ids(whole.folder / "victim" / "validation")
    assert (len(trained), len(held_back), len(final)) == (14, 6, 6)
    assert not {*trained} & {*held_back} | {*trained} & {*final} | {*held_back} & {*final}
    pairs = [CorpusDataset(first / name, mode="clean", check=False) for name in ("corpus", "validation")]
    # Two pictures a patient, of which none is torn apart.
    for dataset in pairs:
        groups = [item["group_id"] for item in dataset]
        assert all(groups.count(group) == 2 for group in groups)


@pytest.mark.usefixtures("inline")
def test_a_split_of_its_own_may_choose(tmp_path: Path) -> None:
    done = hardened(classification(tmp_path, 6, 2, held=4, generations=1, validation="val"))
    first = done.folder / "generation-001"
    trained, asked, final = ids(first / "corpus"), ids(first / "validation"), ids(done.folder / "final" / "chosen")
    assert (len(trained), len(asked), len(final)) == (6, 4, 2)
    assert not {*trained} & {*asked} | {*trained} & {*final} | {*asked} & {*final}
    drawn = [np.asarray(Image.open(tmp_path / "data" / f"{number:03d}.png").convert("RGB")) for number in range(6, 10)]
    stored = [item["image"].numpy().transpose(1, 2, 0) for item in CorpusDataset(first / "validation", mode="clean", check=False)]
    assert all(any(np.array_equal(picture, image) for image in stored) for picture in drawn)
    assert (done.record.validation_samples, done.record.settings.validation) == (4, "val")
    assert json.loads((first / "card.json").read_text())["data"] == "split train"


def test_each_corpus_is_made_against_the_model_of_the_moment(whole: Hardened) -> None:
    record, folder = whole.record, whole.folder
    corpora = [open_corpus(folder / f"generation-00{number}" / "corpus") for number in (1, 2)]
    assert corpora[0].victim.weights_sha256 == record.victim_weights_sha256 == hash_file(spec_of(whole).parent / "victim.safetensors")
    assert corpora[1].victim.weights_sha256 == hash_file(folder / "generation-001" / "trained.safetensors")
    assert [each.content_root for each in record.generations] == [corpus.content_root for corpus in corpora]
    # Each attack goes on from its perturbation in the corpus before, which is named by its content.
    assert [each.warm for each in record.generations] == [{}, {"pgd": 14}]
    assert corpora[1].starts["pgd"].content_root == corpora[0].content_root
    # What is judged is the average.
    for number, each in enumerate(record.generations, 1):
        weights = folder / f"generation-00{number}" / WEIGHTS
        assert each.weights_sha256 == hash_file(weights) == json.loads((weights.parent / "card.json").read_text())["weights_sha256"]
        assert open_corpus(weights.parent / "validation").victim.weights_sha256 == each.weights_sha256
    assert verify(folder / "generation-002" / "corpus") == []
    # Rising over the first half of two generations: whole at once.
    assert [each.epsilons for each in record.generations] == [{"pgd": 4.0}] * 2


def test_images_are_mirrored_before_they_are_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))
    done = hardened(classification(tmp_path, flips=[1], generations=3))
    corpora = [open_corpus(done.folder / f"generation-00{number}" / "corpus", check=False) for number in (1, 2, 3)]
    assert [each.preprocess.mirror and (each.preprocess.mirror.axes, each.preprocess.mirror.turn) for each in corpora] == [
        ((1,), 0), ((1,), 1), ((1,), 2)
    ]
    # Every second generation has each sample as it was: those perturbations fit, and the corpus between is kept for the next.
    assert [each.warm for each in done.record.generations] == [{}, {}, {"pgd": 14}]
    held = [(done.folder / f"generation-00{number}" / "corpus" / "shards").is_dir() for number in (1, 2, 3)]
    assert held == [False, True, True]
    before, after = (
        {item["sample_id"]: item["image"] for item in CorpusDataset(done.folder / f"generation-00{number}" / "corpus", mode="clean")}
        for number in (2, 3)
    )
    assert all(torch.equal(before[name].flip(2), after[name]) for name in before)
    # What is measured on lies as it was found.
    for name in ("generation-001/validation", "final/chosen"):
        assert open_corpus(done.folder / name, check=False).preprocess.mirror is None


def test_the_control_goes_as_far_on_clean_images(whole: Hardened) -> None:
    arms = [load_file(folder / "generation-002" / WEIGHTS) for folder in (whole.folder, whole.folder / "control")]
    assert any((arms[0][name] != arms[1][name]).any() for name in arms[0])
    costs = [each.cost for each in whole.record.generations]
    # Fourteen samples fill three batches of four.
    assert [(cost.training.backward, cost.control.backward, cost.attacks.backward) for cost in costs] == [(12, 12, 28)] * 2
    assert whole.record.control is not None
    assert whole.record.control.robust is not None


def test_figures_are_those_of_what_was_measured(whole: Hardened) -> None:
    record, folder = whole.record, whole.folder
    found = [
        parse(Measurement, (folder / name / "validation.json").read_bytes()) for name in ("victim", "generation-001", "generation-002")
    ]
    assert record.metric == "auc"
    for (before, after), each in zip(pairwise(found), record.generations, strict=True):
        assert each.validation.robust == after.under().figure
        assert each.step == after.under().less(before.under())
    metrics = open_corpus(folder / "generation-002" / "validation").metrics["pgd-1-4"]
    assert found[2].headline.value == pytest.approx(metrics.clean)
    assert found[2].under().value == pytest.approx(metrics.adversarial)


def test_final_images_are_looked_at_once_and_files_say_it(whole: Hardened) -> None:
    record = whole.record
    assert whole.exit_code == ExitCode.DONE
    assert record.choice is not None
    assert record.final is not None
    chosen = open_corpus(whole.folder / "final" / "chosen")
    generation = record.generations[record.choice.generation - 1]
    assert chosen.victim.weights_sha256 == hash_file(whole.folder / WEIGHTS) == generation.weights_sha256
    assert list(record.final.at[0].attacks["chosen"]) == ["fgsm-2-4", "pgd-1-4"]
    assert parse(Hardening, (whole.folder / "hardening.json").read_bytes()) == record
    page = (whole.folder / "hardening.html").read_text()
    assert "<script" not in page
    assert all(text in page for text in (record.choice.why.replace("'", "&#39;"), "Final images", "chosen less control"))
    assert all(text in page for text in (">training of the control<", ">batch size<", ">loss<", "1 epoch of training on it"))


def test_again_there_is_nothing_to_do(whole: Hardened) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*.safetensors")}
    assert hardened(spec_of(whole)).record == whole.record
    assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*.safetensors")} == before


@pytest.mark.usefixtures("inline")
def test_one_generation_a_job_and_killed_in_between_ends_with_the_same_weights(whole: Hardened, tmp_path: Path) -> None:
    path = copied(whole, tmp_path / "again")
    calls = iter(range(1000))

    class Killed(BaseException):
        pass

    def killed_at(*calls_left: int) -> Callable[..., None]:
        def progress(*_: Any) -> None:
            if next(calls) in calls_left:
                raise Killed

        return progress

    codes = []
    for _ in range(20):
        show: Any = killed_at(3, 40, 45, 80, 95)
        show.message = lambda text: None
        try:
            done = harden(path, Options(), 1, show, Stop())
        except Killed:
            codes.append(None)
            continue
        codes.append(int(done.exit_code))
        if not done.record.left:
            break
    assert [code for code in codes if code is not None] == [7, 7, 0]
    assert codes.count(None) >= 3
    assert done.record == whole.record
    for name in ("generation-001", "generation-002", "control/generation-002"):
        assert (done.folder / name / WEIGHTS).read_bytes() == (whole.folder / name / WEIGHTS).read_bytes()


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("case", "metric", "hardening"),
    [(segmentation, "dice", {"loss": "trades", "batch_norm": "frozen"}), (detection, "ap50", {"optimizer": "sgd", "share": 0.5})],
)
def test_masks_and_boxes(case: Callable[..., Path], metric: str, hardening: dict[str, Any], tmp_path: Path) -> None:
    done = hardened(case(tmp_path, generations=1, **hardening))
    assert done.record.metric == metric
    assert done.record.final is not None
    assert done.record.final.at[0].chosen.value is not None
    before, after = load_file(tmp_path / "victim.safetensors"), load_file(done.folder / "generation-001" / WEIGHTS)
    assert any((before[name] != after[name]).any() for name in before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hardening": None}, "hardening is missing"),
        ({"data.split": None}, "data.split is missing"),
        ({"hardening.split": "test"}, "training must not see them"),
        ({"hardening.validation": "test"}, "the choice must not see them"),
        ({"hardening.validation": "train"}, "is the split that is trained on"),
        ({"hardening.validation": 1.5}, "validation=1.5 must be a share above 0 and below 1, or the name of a split"),
        ({"data.split": {"use": "test", "ignore": ["spare"]}, "hardening.validation": "spare"}, "says that it is no split"),
        ({"hardening.read": "all"}, "set keep: all beside it"),
        ({"hardening.loss": "trades", "hardening.share": 0.5}, "leave share out"),
        ({"hardening.command": COMMAND, "hardening.loss": "trades"}, "loss is for the built-in loop"),
        ({"hardening.command": COMMAND, "hardening.share": 0.5}, "share is for the built-in loop"),
        ({"hardening.validation_attacks": [{"attack": "pgd", "epsilon": 2}]}, r"validation_attacks\[0\]: the epsilon"),
        ({"hardening.final_attacks": [{"attack": "bmi"}]}, r"final_attacks\[0\].attack"),
        ({"data.label": "none"}, "needs labels"),
        ({"victim.weights": ["a.safetensors", "b.safetensors"]}, "trains one network"),
    ],
)
def test_what_cannot_be_hardened_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = classification(tmp_path, 4, 2)
    spec = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = spec
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(yaml.safe_dump(spec))
    with pytest.raises(SpecError, match=said):
        hardened(path)
    assert not (tmp_path / "hardenings").exists()


@pytest.mark.parametrize("key", ["hardening.split", "hardening.validation", "data.split.use"])
def test_a_split_without_images_is_found_before_anything_is_made(key: str, tmp_path: Path) -> None:
    path = classification(tmp_path, 4, 2, held=2, validation="val")
    folder = tmp_path / "hardenings"
    with pytest.raises(SpecError, match=rf"{key}: there are no images of split 'none'"):
        hardened(path, overrides=[f"{key}=none"])
    assert not list(folder.rglob("corpus")), "no attack was paid for"
    assert not list(folder.rglob("spec.json")), "another spec may begin there"


def test_it_is_begun_once_and_held_by_one(whole: Hardened) -> None:
    with pytest.raises(SpecError, match=r"begun with other settings: spec.hardening.rate"):
        hardened(spec_of(whole), overrides=["hardening.rate=0.5"])
    with held(whole.folder / ".medadv" / "lock", "hardening"), pytest.raises(LockedError, match="hardening"):
        hardened(spec_of(whole))


@pytest.mark.usefixtures("inline")
def test_of_a_single_group_there_is_no_interval(tmp_path: Path) -> None:
    once = [{"attack": "fgsm"}]
    done = hardened(classification(tmp_path, 6, 2, generations=1, rate=1e-2, validation_attacks=once, final_attacks=once))
    record = done.record
    assert record.final is not None
    assert record.choice is not None
    assert (record.validation_groups, record.final.groups, record.choice.generation) == (1, 1, 1)
    generation, at = record.generations[0], record.final.at[0]
    for figure in (generation.validation.clean, generation.step, generation.clean_change, generation.gain, at.chosen, at.gain):
        assert figure is not None
        assert figure.value is not None
        assert figure.low is figure.high is None
    assert not generation.worse
    assert not at.above_control
    assert not at.above_ignoring
    page = " ".join((done.folder / "hardening.html").read_text().split())
    assert "Validation is a single group" in page
    assert "Of a single group there is no interval" in page


TRAINER = """
import sys
from safetensors.torch import load_file, save_file

corpus, weights, out, mode = sys.argv[1:]
if mode == "broken":
    sys.exit("no such mode")
state = load_file(weights)
name = sorted(state)[0]
state[name] = state[name] + (1 if mode == "adversarial" else 2)
# As what trains on several devices may leave it.
save_file({f"module.{name}": value for name, value in state.items()}, out)
"""


def by_program(path: Path, mode: str = "{mode}") -> Path:
    """The spec with a trainer of one's own, which adds 1 to the first weights, or 2 for the control."""
    (path.parent / "trainer.py").write_text(TRAINER)
    spec = yaml.safe_load(path.read_text())
    spec["hardening"] |= {"command": [sys.executable, "trainer.py", "{corpus}", "{weights}", "{out}", mode], "generations": 1}
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("given", [Path, from_checkpoint])
def test_a_program_of_ones_own_trains_where_it_is_trusted(given: Callable[[Path], Path], tmp_path: Path) -> None:
    path = given(by_program(classification(tmp_path, 8, 4)))
    with pytest.raises(SpecError, match="--trust-code"):
        hardened(path)
    done = hardened(path, trust_code=True)
    before = load_file(tmp_path / "victim.safetensors")
    name = sorted(before)[0]
    for folder, added in ((done.folder, 1), (done.folder / "control", 2)):
        after = load_file(folder / "generation-001" / WEIGHTS)
        assert ((after[name] - before[name]) == added).all() or torch.allclose(after[name] - before[name], torch.tensor(float(added)))
        assert all((after[other] == before[other]).all() for other in before if other != name)
        assert json.loads((folder / "generation-001" / "card.json").read_text())["training"] == {"by": "command"}
    # What the loop would have done, its passes and its rate, is not said of a program.
    page = (done.folder / "hardening.html").read_text()
    assert "training on it by a program of its own" in page
    assert not any(text in page for text in (">training<", ">training of the control<", ">batch size<", ">rate<", ">loss<", "1 epoch of"))
    with pytest.raises(SpecError, match="--trust-code"):
        hardened(path)


def test_what_a_program_does_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"command says nowhere \{mode\}"):
        hardened(by_program(classification(tmp_path, 4, 2), "adversarial"), trust_code=True)
    spec = load_spec(by_program(tmp_path / "spec.yaml"))
    work = Work(tmp_path / "spec.yaml", spec, settings_of(spec), Home(tmp_path), Options(), quiet, Stop(), Log(tmp_path / "log"))
    with pytest.raises(RunError, match="ended with 1: no such mode"):
        run_program(work, [sys.executable, "trainer.py", "", "", "", "broken"], tmp_path / "said")
    with pytest.raises(SpecError, match="nowhere-at-all cannot be started"):
        run_program(work, ["nowhere-at-all"], tmp_path / "said")
    work.stop.note(signal.SIGTERM)
    began = time.monotonic()
    with pytest.raises(StoppedError):
        run_program(work, ["sleep", "60"], tmp_path / "said")
    assert time.monotonic() - began < 30
