"""How does a spec's input pipeline become modules? Normalisation or steps, windows and what else lies around the network."""

from collections.abc import Sequence

from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from torch import nn

from medadv.common.errors import SpecError
from medadv.spec.normalize import CropStep, NormalizeSettings
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.around import Members
from medadv.victims.inputs.deployed import Logits, Mirrored, Slicewise
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.sliding import SlidingWindow
from medadv.victims.inputs.sliding_maps import SlidingMaps
from medadv.victims.inputs.steps import input_steps
from medadv_transforms.normalize import Normalize, Window


def normalization(settings: VictimSettings) -> nn.Module:
    """From stored units to the network's input."""
    normalize = settings.normalize
    if not isinstance(normalize, NormalizeSettings):
        return input_steps(normalize)
    if normalize.window is not None:
        return Window(*normalize.window)
    assert normalize.mean is not None
    assert normalize.std is not None
    return Normalize(normalize.mean, normalize.std)


def refuse_windows(settings: VictimSettings, task: str) -> None:
    """Raise SpecError where what lies around a network is asked for, and the task's answers cannot go through it."""
    if task == "segmentation":
        return
    if task == "detection" and (settings.head == "binary" or settings.activation != "none"):
        key, value = ("head", settings.head) if settings.head == "binary" else ("activation", settings.activation)
        raise SpecError(f"victim.{key}={value}: a detector answers boxes and scores of its own; leave {key} out")
    if settings.window_places != "monai":
        raise SpecError(f"victim.window_places={settings.window_places} is for voxel-wise answers; task {task} has none")
    if settings.window is not None and task != "detection":
        raise SpecError(f"victim.window: sliding windows stitch voxel-wise answers; task {task} takes whole images, leave it out")
    if settings.slicewise or settings.mirror:
        raise SpecError(f"victim.{'slicewise' if settings.slicewise else 'mirror'} is for voxel-wise answers; task {task} has none")
    if not isinstance(settings.normalize, NormalizeSettings) and any(isinstance(step, CropStep) for step in settings.normalize):
        raise SpecError(f"victim.normalize: crop is for voxel-wise answers; task {task} has none")


def refuse_windows_of(detector: nn.Module, settings: VictimSettings) -> None:
    """Raise SpecError where windows are asked for of a detector that has no way to put their answers together."""
    if settings.window is None:
        return
    if not isinstance(detector, RetinaNetDetector):
        raise SpecError("victim.window: windows stitch the maps of MONAI's RetinaNet; other detectors take whole images, leave it out")
    if len(settings.window) != detector.spatial_dims:
        raise SpecError(f"victim.window={list(settings.window)} needs {detector.spatial_dims} lengths, as many as the detector has axes")
    if odd := [w for w, k in zip(settings.window, detector.size_divisible, strict=True) if w % k]:
        raise SpecError(f"victim.window={list(settings.window)}: {odd[0]} is no multiple of size_divisible={list(detector.size_divisible)}")


def deployed(networks: Sequence[nn.Module], settings: VictimSettings) -> Normalized:
    """All members as the victim's one module, with everything that the spec lays around them."""
    around = [_around(network, settings) for network in networks]
    network = around[0] if len(around) == 1 else Members(around)
    binary = settings.head == "binary"
    ending = Logits(settings.activation, binary=binary) if binary or settings.activation != "none" else None
    return Normalized(normalization(settings), network, ending, settings.head)


def _around(network: nn.Module, settings: VictimSettings) -> nn.Module:
    if isinstance(network, RetinaNetDetector):
        return _maps_through_windows(network, settings)
    if settings.mirror:
        network = Mirrored(network, settings.mirror)
    if settings.window is not None:
        network = SlidingWindow(
            network,
            settings.window,
            settings.overlap,
            settings.window_mode,
            settings.window_batch,
            settings.window_padding,
            settings.window_places,
        )
    return Slicewise(network, settings.window_batch) if settings.slicewise else network


def _maps_through_windows(detector: RetinaNetDetector, settings: VictimSettings) -> RetinaNetDetector:
    """The detector, around whose network windows are laid: anchors, padding and the choice of boxes are of the whole image."""
    if settings.window is not None:
        detector.network = SlidingMaps(
            detector.network,
            (detector.cls_key, detector.box_reg_key),
            settings.window,
            settings.overlap,
            settings.window_mode,
            settings.window_batch,
            settings.window_padding,
        )
    return detector
