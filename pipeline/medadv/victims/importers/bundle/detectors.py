"""Which detector does a bundle set up, and how? MONAI's RetinaNet with what its setters were called with."""

import re
from collections.abc import Mapping

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle.arguments import word
from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.inferers import windows
from medadv.victims.importers.bundle.networks import FoundNetwork
from medadv.victims.importers.bundle.values import Component, Symbol, Unreadable, Value, Words, components
from medadv.victims.sources.retinanet import BACKBONES

OVERLAP = 0.5
"""Of windows where the setter is given none, which is more than that of MONAI's inferer."""
MATCHERS = {"set_atss_matcher": "atss", "set_regular_matcher": "regular"}
TRAINING = ("set_target_keys", "set_cls_loss", "set_box_regression_loss", "set_hard_negative_sampler", "set_balanced_sampler")
"""Setters of names and of training: what is attacked is the loss of every anchor."""
AT_START, REQUIRED = ("initialize", "run"), ("detector_ops", "evaluator::_requires_", "validate::evaluator::_requires_")
"""Where the setters are called: among anything else that is done at the start, and where somebody requires them.  In MONAI's order."""
WRITTEN_OUT = "Write the setters that it calls out in detector_ops of a copy of the configuration, and name that in victim.configuration"
IOU = ("monai.data.box_iou", "monai.data.box_utils.box_iou")
DETECTOR = re.compile(r"\bdetector\b")


def read_detector(found: Found) -> tuple[FoundNetwork, Words] | None:
    """The detector and its window settings; None where the bundle has none.  Raises SpecError for what a spec cannot say."""
    configuration = found.configuration
    if not configuration.has("detector"):
        return None
    detector = configuration.get("detector")
    if not isinstance(detector, Component) or not detector.is_monais("RetinaNetDetector"):
        raise configuration.refused("detector is none of MONAI's RetinaNetDetector")
    for place in (*AT_START, *REQUIRED):
        if configuration.has(place):
            _check_operations(found, detector, configuration.get(place), place)
    network, anchors = detector.argument("network"), detector.argument("anchor_generator")
    if not isinstance(network, Component) or not network.is_monais("RetinaNet"):
        raise configuration.refused(f"{detector.key}::network is no RetinaNet")
    if not isinstance(anchors, Component) or not anchors.is_monais("AnchorGeneratorWithAnchorShape"):
        raise configuration.refused(f"{detector.key}::anchor_generator is no AnchorGeneratorWithAnchorShape")
    _check_usual(found, detector, anchors)
    arguments = {
        # Said, as here images are padded to the backbone's stride where nothing is.
        "size_divisible": 1,
        **_plain(found, network, ("spatial_dims", "num_classes", "size_divisible")),
        **_plain(found, anchors, ("feature_map_scales", "base_anchor_shapes")),
        **_features(found, network),
    }
    settings: Words = {}
    for call in [each for each in detector.calls if each.name not in TRAINING]:
        if isinstance(call.named, Unreadable):
            raise _unknown(found, call.named)
        named = call.named
        if call.name == "set_box_selector_parameters":
            selector = _all_plain(found, named, call.name)
            if selector.pop("apply_sigmoid", True) is not True:
                raise configuration.refused(f"{detector.key}.{call.name} with apply_sigmoid=False has no word in a spec")
            arguments |= selector
        elif call.name in MATCHERS:
            arguments["matcher"] = {MATCHERS[call.name]: _all_plain(found, named, call.name)}
        elif call.name == "set_sliding_window_inferer":
            settings = windows(found, named, f"{detector.key}.{call.name}", OVERLAP)
        else:
            raise configuration.refused(f"{detector.key} is set by {call.name}, which has no word in a spec")
    return FoundNetwork("monai:retinanet", arguments), settings


def _check_operations(found: Found, detector: Component, value: Value, place: str) -> None:
    """Raise SpecError where something is done to the detector that is none of its setters, or cannot be read.  place: in the top entry."""
    if isinstance(value, list | Mapping):
        for each in value.values() if isinstance(value, Mapping) else value:
            _check_operations(found, detector, each, place)
    if isinstance(value, Unreadable):
        text = found.configuration.written(value.key)
        # What is done at the start is mostly about seeds and processors, and what refers to nothing reaches no detector.
        if DETECTOR.search(text) if place in AT_START else "@" in text:
            raise _unknown(found, value)
    if not isinstance(value, Component) or value is detector or not any(each is detector for each in components(value)):
        return
    # An inferer may be required, which is built with the detector; a function that is called on it may set anything.
    if place == "detector_ops" or found.configuration.written(value.key).startswith("$"):
        raise found.configuration.refused(f"{value.key}: what {value.target} sets of the detector is not known. {WRITTEN_OUT}")


def _check_usual(found: Found, detector: Component, anchors: Component) -> None:
    """Raise SpecError where boxes overlap by another measure, or lie in another order, than a spec's."""
    metric = detector.argument("box_overlap_metric")
    if metric is not None and not (isinstance(metric, Symbol) and metric.name in IOU):
        raise found.configuration.refused(
            f"{detector.key}::box_overlap_metric is {word(metric)}, where a spec's detectors have box_iou alone"
        )
    if (order := _all_plain(found, {"indexing": anchors.argument("indexing", "ij")}, anchors.key)["indexing"]) != "ij":
        raise found.configuration.refused(f"{anchors.key}::indexing is {order}, where a spec's anchors lie along the tensor's axes (ij)")


def _features(found: Found, network: Component) -> Words:
    extractor = network.argument("feature_extractor")
    if not isinstance(extractor, Component) or not extractor.is_monais("resnet_fpn_feature_extractor"):
        raise _odd(found, extractor, f"{network.key}::feature_extractor is no resnet_fpn_feature_extractor")
    backbone = extractor.argument("backbone")
    if not isinstance(backbone, Component) or not backbone.is_monais(*BACKBONES):
        raise _odd(found, backbone, f"{extractor.key}::backbone is none of {', '.join(BACKBONES)}")
    known = {"n_input_channels": "in_channels", "conv1_t_stride": "conv1_t_stride", "conv1_t_size": "conv1_t_size"}
    if odd := [name for name in backbone.named if name not in (*known, "spatial_dims", "pretrained", "progress")]:
        raise found.configuration.refused(f"{backbone.key}::{odd[0]} of a detector's backbone has no word in a spec")
    given = {new: backbone.named[old] for old, new in known.items() if old in backbone.named}
    layers = extractor.argument("returned_layers", [1, 2, 3])
    plain: Mapping[str, Value] = {"in_channels": 3, "conv1_t_size": 7, "conv1_t_stride": 1, **given, "returned_layers": layers}
    return {
        "backbone": backbone.name,
        **{name: found.configuration.plain(value, f"{backbone.key}::{name}") for name, value in plain.items()},
    }


def _odd(found: Found, value: Value, otherwise: str) -> SpecError:
    # Running what cannot be read would make an object, which no spec can say.
    return found.configuration.refused(f"{value.key}: {value.why}" if isinstance(value, Unreadable) else otherwise)


def _unknown(found: Found, operation: Unreadable) -> SpecError:
    return found.configuration.refused(f"{operation.key}: {operation.why}. {WRITTEN_OUT}")


def _plain(found: Found, component: Component, names: tuple[str, ...]) -> Words:
    return _all_plain(found, {name: component.named[name] for name in names if name in component.named}, component.key)


def _all_plain(found: Found, named: Mapping[str, Value], key: str) -> Words:
    return {name: found.configuration.plain(value, f"{key}::{name}") for name, value in named.items()}
