"""A detector of a bundle is set up as its setters say, and what else is done to it is refused."""

from pathlib import Path
from typing import Any

import pytest
from monai.utils.misc import ensure_tuple_rep
from tests.victims import small_bundles as small
from tests.victims.bundle_reference import (
    own_code,
    parser_of,
)

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle import import_bundle
from medadv.victims.sources.registry import build_network

pytestmark = pytest.mark.filterwarnings("ignore")


def agrees_with_monai(bundle: Path, config: small.Config) -> None:
    """medadv's detector of a bundle pads, selects and matches as the one that MONAI's parser builds."""
    config["imports"].append("$import monai")
    small.write_bundle(bundle, config)
    with own_code(bundle):
        parser = parser_of(bundle, "inference.json")
        parser.get_parsed_content("detector_ops")
        theirs = parser.get_parsed_content("detector")
    found: Any = import_bundle(bundle, False).victim
    ours: Any = build_network(found["network"], found["arguments"])
    assert ensure_tuple_rep(ours.network.size_divisible, 3) == ensure_tuple_rep(theirs.network.size_divisible, 3)
    assert ensure_tuple_rep(ours.size_divisible, 3) == ensure_tuple_rep(theirs.size_divisible, 3)
    for name in ("score_thresh", "topk_candidates_per_level", "nms_thresh", "detections_per_img"):
        assert getattr(ours.box_selector, name) == getattr(theirs.box_selector, name)
    if hasattr(theirs, "proposal_matcher"):
        assert type(ours.proposal_matcher) is type(theirs.proposal_matcher)
        numbers = {name: value for name, value in vars(theirs.proposal_matcher).items() if isinstance(value, int | float)}
        assert {name: vars(ours.proposal_matcher)[name] for name in numbers} == numbers


@pytest.mark.parametrize(
    "setter",
    [
        "set_box_selector_parameters(0.3, 50, 0.22, 30)",
        "set_atss_matcher(9, True)",
        "set_regular_matcher(0.5, 0.4, False)",
    ],
)
def test_setters_of_a_detector_take_arguments_by_place(setter: str, tmp_path: Path) -> None:
    agrees_with_monai(tmp_path, {**small.nodules(), "detector_ops": [f"$@detector.{setter}"]})


def test_a_detector_that_names_no_multiples_pads_as_monai_does(tmp_path: Path) -> None:
    config = small.nodules()
    del config["network_def"]["size_divisible"]
    agrees_with_monai(tmp_path, config)


def test_windows_of_a_detector_overlap_as_its_setter_says(tmp_path: Path) -> None:
    """By half where it says nothing: MONAI's inferer alone has a quarter."""
    config = small.nodules()
    config["detector_ops"] = ["$@detector.set_sliding_window_inferer([16,16,8], 2)"]
    victim = import_bundle(small.write_bundle(tmp_path, config), False).victim
    assert [victim[key] for key in ("window", "overlap", "window_batch")] == [[16, 16, 8], 0.5, 2]


@pytest.mark.parametrize(
    ("setter", "said"),
    [
        ("set_box_selector_parameters(0.3, 50, 0.22, 30, False)", "with apply_sigmoid=False has no word in a spec"),
        ("set_atss_matcher(9, True, 1)", "RetinaNetDetector.set_atss_matcher is given arguments by their place"),
        ("set_atss_matcher(*@image_key)", "calls with arguments of a list"),
    ],
)
def test_a_setter_that_cannot_be_read_is_refused(setter: str, said: str, tmp_path: Path) -> None:
    config = small.nodules()
    config["detector_ops"].append(f"$@detector.{setter}")
    with pytest.raises(SpecError) as caught:
        import_bundle(small.write_bundle(tmp_path, config), False)
    assert said in str(caught.value)


OPERATIONS: dict[str, tuple[str, Any, str]] = {
    "computed": ("detector_ops", ["$[@detector.set_target_keys(box_key=k, label_key='label') for k in ['box']]"], "list that is computed"),
    "attribute": ("detector_ops", ["$setattr(@detector.box_selector, 'nms_thresh', 0.9)"], "detector_ops::0: uses setattr. Write the"),
    "all of them": ("detector_ops", "$[each for each in @setters]", "detector_ops: holds a list that is computed. Write the setters"),
    "inside": ("detector_ops", [["$@detector.set_atss_matcher(9, True) if @image_key in {1} else 0"]], "detector_ops::0::0: holds a set"),
    "own function": ("detector_ops", ["$scripts.setup.strict(detector=@detector)"], "scripts.setup.strict sets of the detector is not"),
    "own object": ("detector_ops", [{"_target_": "scripts.setup.Strict", "detector": "@detector"}], "scripts.setup.Strict sets of"),
    "at the start": ("initialize", ["$setattr(@detector.box_selector, 'nms_thresh', 0.9)"], "initialize::0: uses setattr"),
    "at the start, own": ("initialize", ["$scripts.setup.strict(detector=@detector)"], "initialize::0: what scripts.setup.strict sets"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_else_is_done_to_a_detector_is_refused(name: str, tmp_path: Path) -> None:
    place, operations, said = OPERATIONS[name]
    config = {**small.nodules(), place: operations}
    config["imports"].append("$import scripts")
    for trust in (False, True):
        with pytest.raises(SpecError) as caught:
            import_bundle(small.write_bundle(tmp_path, config), trust)
        assert said in str(caught.value)
        assert "--trust-code" not in str(caught.value)


def test_what_is_done_beside_a_detector_is_not_asked(tmp_path: Path) -> None:
    """Seeds, processors, and who needs the detector; setters are heeded wherever they are called."""
    config = small.nodules()
    config["imports"].append("$import scripts")
    config["initialize"] = ["$monai.utils.set_determinism(seed=0)", "$setattr(torch.backends.cudnn, 'benchmark', True)", "$print(1)"]
    config["detector_ops"].append("$setattr(torch.backends.cudnn, 'benchmark', True)")
    config["evaluator"]["_requires_"] = ["@detector_ops", "@inferer", "$@detector.to(@device)"]
    config["run"] = ["$@detector.set_atss_matcher(num_candidates=9)", "$@evaluator.run()"]
    victim: Any = import_bundle(small.write_bundle(tmp_path, config), False).victim
    assert victim["arguments"]["nms_thresh"] == 0.22
    assert victim["arguments"]["matcher"] == {"atss": {"num_candidates": 9}}


def test_setters_that_are_required_come_after_those_of_the_start(tmp_path: Path) -> None:
    config = {**small.nodules(), "initialize": ["$@detector.set_box_selector_parameters(nms_thresh=0.9)"]}
    victim: Any = import_bundle(small.write_bundle(tmp_path, config), False).victim
    assert victim["arguments"]["nms_thresh"] == 0.22


@pytest.mark.parametrize(
    ("place", "name", "value", "said"),
    [
        ("detector", "box_overlap_metric", "$monai.data.box_utils.box_giou", "::box_overlap_metric is monai.data.box_utils.box_giou"),
        ("detector", "box_overlap_metric", "$lambda one, two: one", "box_overlap_metric is what cannot be read"),
        ("anchor_generator", "indexing", "xy", "anchor_generator::indexing is xy"),
    ],
)
def test_a_detector_of_other_overlaps_or_anchors_is_refused(place: str, name: str, value: str, said: str, tmp_path: Path) -> None:
    config = small.nodules()
    config[place][name] = value
    with pytest.raises(SpecError) as caught:
        import_bundle(small.write_bundle(tmp_path, config), False)
    assert said in str(caught.value)


def test_the_usual_overlap_and_anchors_may_be_named(tmp_path: Path) -> None:
    config = small.nodules()
    config["detector"]["box_overlap_metric"] = "$monai.data.box_utils.box_iou"
    config["anchor_generator"]["indexing"] = "ij"
    agrees_with_monai(tmp_path, config)
