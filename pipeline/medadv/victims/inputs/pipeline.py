"""How do stored units become the network's input? Normalisation and sliding windows, as the spec says."""

from torch import nn

from medadv.common.errors import SpecError
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.sliding import SlidingWindow
from medadv_transforms.normalize import Normalize, Window


def normalization(settings: VictimSettings) -> nn.Module:
    normalize = settings.normalize
    if normalize.window is not None:
        return Window(*normalize.window)
    assert normalize.mean is not None
    assert normalize.std is not None
    return Normalize(normalize.mean, normalize.std)


def refuse_windows(settings: VictimSettings, task: str) -> None:
    """Raise SpecError where windows are asked for and there is nothing to stitch."""
    if settings.window is not None and task != "segmentation":
        raise SpecError(f"victim.window: sliding windows stitch voxel-wise answers; task {task} takes whole images, leave it out")


def windowed(network: nn.Module, settings: VictimSettings) -> nn.Module:
    if settings.window is None:
        return network
    return SlidingWindow(network, settings.window, settings.overlap, settings.window_mode, settings.window_batch)
