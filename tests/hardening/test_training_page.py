"""What TRAINING.md says of hardenings is what their records say, several seeds averaged before their interval."""

import re
from types import ModuleType

import pytest
from tests.conftest import load_script

from medadv.hardening.measuring import Estimate
from medadv.report.record import Figure
from medadv.spec.hardening import BundleSettings, HardeningSettings


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("bench/training.py")


def test_seeds_are_averaged_first(script: ModuleType) -> None:
    one = Estimate(value=0.2, resamples=[0.0, 0.2, 0.4])
    other = Estimate(value=0.4, resamples=[0.4, 0.2, 0.0])
    both = script.mean([one, other])
    # Apart they vary, together they do not.
    assert both.resamples == pytest.approx([0.2, 0.2, 0.2])
    assert both.value == pytest.approx(0.3)
    with pytest.raises(ValueError, match="other final images"):
        script.mean([one, Estimate(value=0.1, resamples=[0.1])])


@pytest.mark.parametrize("changed", [{"samples": 1}, {"groups": 1}, {"left_out": 1000}])
def test_seeds_with_other_final_images_are_refused(script: ModuleType, changed: dict[str, int]) -> None:
    first, other, *_ = (script.parse(script.Kept, path.read_bytes()) for path in sorted(script.KEPT.glob("lungs-?.json")))
    assert script.tables([first, other])
    final = other.record.final.model_copy(update=changed)
    other = other.model_copy(update={"record": other.record.model_copy(update={"final": final})})
    with pytest.raises(ValueError, match=r"lungs: .*other final images"):
        script.tables([first, other])


def test_differences_are_paired() -> None:
    control, chosen = Estimate(value=0.2, resamples=[0.0, 0.5]), Estimate(value=0.3, resamples=[0.1, 0.6])
    difference = chosen.less(control)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.1, 0.1, 0.1))
    assert chosen.less(Estimate(value=None, resamples=[None, None])) == Figure(value=None, low=None, high=None)
    # Of a single group there are no resamples.
    single = Estimate(value=0.1, resamples=[])
    assert single.figure == Figure(value=0.1, low=None, high=None)
    assert chosen.less(single).low is single.less(single).high is None


def test_a_gain_is_told_as_a_share_of_another(script: ModuleType) -> None:
    control = Estimate(value=0.1, resamples=[0.1, 0.2])
    mine = {"control": control, "chosen": Estimate(value=0.4, resamples=[0.3, 0.6])}
    theirs = {"control": control, "chosen": Estimate(value=0.7, resamples=[0.5, 1.0])}
    ratio = script.gain_ratio(mine, theirs)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert script.gain_ratio(mine, {"control": control, "chosen": control}).value is None


def test_gains_are_held_against_each_other_over_one_control_too(script: ModuleType) -> None:
    lungs, memory = (
        [script.parse(script.Kept, path.read_bytes()) for path in sorted(script.KEPT.glob(f"{name}-[0-9].json"))]
        for name in ("lungs", "lungs-memory")
    )
    (at,) = lungs[0].robust
    mine, theirs = ({arm: sum(each.robust[at][arm].value for each in kept) / 3 for arm in script.ARMS} for kept in (lungs, memory))
    one = (mine["chosen"] - theirs["control"]) / (theirs["chosen"] - theirs["control"])
    own = (mine["chosen"] - mine["control"]) / (theirs["chosen"] - theirs["control"])
    found = re.search(r"over one control, of all epochs, is ([\d.]+) .* over its own, ([\d.]+) ", script.tables([*lungs, *memory]))
    assert found is not None
    assert found.groups() == (f"{one:.3f}", f"{own:.3f}")


def test_figures_that_are_kept_name_no_place_of_a_machine(script: ModuleType) -> None:
    command = ["/somewhere/bin/python", "/somewhere/else/train.py", "{corpus}", "{weights}", "{out}", "{mode}", "4"]
    by_program = HardeningSettings(split="train", command=command)
    assert script.without_places(by_program).command == ["python", "train.py", *command[2:]]
    by_bundle = HardeningSettings(split="train", bundle=BundleSettings(path="/somewhere/lungs"))
    bundle = script.without_places(by_bundle).bundle
    assert bundle is not None
    assert bundle.path == "lungs"
    assert script.without_places(HardeningSettings(split="train")) == HardeningSettings(split="train")
    for path in script.KEPT.glob("*.json"):
        settings = script.parse(script.Kept, path.read_bytes()).record.settings
        assert script.without_places(settings) == settings, path.name


def test_arms_are_held_against_each_other_by_the_seeds_that_both_have(script: ModuleType) -> None:
    lungs, memory = (
        [script.parse(script.Kept, path.read_bytes()) for path in sorted(script.KEPT.glob(f"{name}-[0-9].json"))]
        for name in ("lungs", "lungs-memory")
    )
    both = script.of_equal_seeds(lungs, memory[1:])
    assert [[each.record.settings.seed for each in arm] for arm in both] == [[1, 2], [1, 2]]
    assert script.of_equal_seeds(lungs[:1], memory[1:]) is None
    assert script.of_equal_seeds([], memory) is None


def test_the_document_has_a_place_for_the_tables(script: ModuleType) -> None:
    text = script.PAGE.read_text()
    assert "a table\n<!-- end of figures -->" in script.filled(text, "a table")
    kept = [script.parse(script.Kept, path.read_bytes()) for path in sorted(script.KEPT.glob("*.json"))]
    assert script.filled(text, script.tables(kept)) == text
