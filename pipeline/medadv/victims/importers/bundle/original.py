"""What does MONAI itself answer for a bundle? Its parser builds transforms, inferer and network, and so runs what the bundle says."""

import copy
from pathlib import Path

import torch
from torch import Tensor

from medadv.common.errors import SpecError, first_line
from medadv.victims.importers.bundle.checkpoints import read_checkpoint
from medadv.victims.importers.bundle.configuration import Configuration
from medadv.victims.importers.bundle.found import Found
from medadv.victims.sources.checkpoint import read_checkpoint as read_tensors
from medadv.victims.sources.code import first_on_path
from medadv.victims.sources.matching import match

LEFT_OUT = ("img_size",)
"""Arguments of networks that MONAI itself takes no more."""


def monai_logits(bundle: Path, configuration: str | None, file: Path) -> Tensor:
    """The logits of an image file, (n, K, ...), on the grid of the bundle's own transforms.  Only for who trusts its code.

    Raises SpecError where its parser, transforms, inferer or network do not do their work here, saying why.
    """
    from monai.bundle import ConfigParser

    found = Configuration(bundle, True, configuration)
    weights = read_checkpoint(Found(found))
    try:
        with first_on_path(found.folder.root, "scripts"), torch.no_grad():
            raw = copy.deepcopy(dict(found.raw))
            raw["device"] = "$torch.device('cpu')"
            if isinstance(raw.get("network_def"), dict):
                raw["network_def"] = {name: value for name, value in raw["network_def"].items() if name not in LEFT_OUT}
            parser = ConfigParser(raw)
            network = parser.get_parsed_content("network")
            network.load_state_dict(match(network.state_dict(), read_tensors(weights)).tensors, strict=False)
            network.eval()
            sample = parser.get_parsed_content("preprocessing")({raw.get("image_key", "image"): str(file)})
            image = torch.as_tensor(sample[raw.get("image_key", "image")]).as_subclass(Tensor).float()
            answer = parser.get_parsed_content("inferer")(image[None], network)
        return torch.as_tensor(answer).as_subclass(Tensor)
    except Exception as error:  # foreign code raises what it likes
        raise SpecError(f"MONAI's own answer could not be had ({first_line(error)})") from None
