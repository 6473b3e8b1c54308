"""A frozen plan of CT slices from DICOM series, with a victim of a few hundred weights."""

from pathlib import Path

from tests.conftest import quiet, save_victim, tiny_spec

from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.prepare.request import Options
from medadv.run.part import freeze_plan


def planned_slices(folder: Path) -> Workspace:
    """The corpus planned for the series in `folder`/data, attacked by one step, without labels."""
    arguments = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    save_victim(folder / "victim.safetensors", "monai:unet", arguments)
    spec = tiny_spec(
        folder,
        data={"modality": "ct", "task": "segmentation", "layout": "dicom", "path": "data", "label": "none"},
        preprocess={"as": "slices"},
        victim__network="monai:unet",
        victim__arguments=arguments,
        victim__normalize={"window": [-1000, 400]},
        attacks={"fgsm-4": {"attack": "fgsm", "epsilon": 4}},
    )
    freeze_plan(spec, Options(), quiet, Stop())
    return Workspace(folder / "corpus")
