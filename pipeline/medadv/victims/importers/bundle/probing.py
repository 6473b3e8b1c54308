"""Does a transform of the bundle's own code change an image? With --trust-code alone, it is tried."""

import math

import torch
from monai.data.meta_tensor import MetaTensor

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle.found import Found
from medadv.victims.importers.bundle.values import Component, Words
from medadv.victims.sources.code import imported

SIDE = 6
"""Of the image that is tried, in voxels."""


def leaves_images_alone(found: Found, transform: Component) -> bool:
    """Whether a small image of several values comes back as it was; what fails does not."""
    module, _, name = transform.target.rpartition(".")
    shape = (3, SIDE, SIDE) if found.picture else (1, SIDE, SIDE, SIDE)
    image = MetaTensor(torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape), affine=torch.eye(4))
    arguments: Words = {key: found.configuration.plain(value, f"{transform.key}::{key}") for key, value in transform.named.items()}
    try:
        made = getattr(imported(module, found.configuration.folder.root), name)(**arguments)
        answered = made({found.image: image.clone()})[found.image]
    except SpecError:
        raise
    except Exception:  # foreign code raises what it likes, and then it is not known to leave images alone
        return False
    return (
        isinstance(answered, torch.Tensor)
        and answered.shape == image.shape
        and bool(answered.as_subclass(torch.Tensor).equal(image.as_tensor()))
    )
