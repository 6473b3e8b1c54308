"""Which samples does a layout name?"""

from pathlib import Path

from medadv.datasets.coco import list_coco
from medadv.datasets.nnunet import list_nnunet
from medadv.datasets.part import part_of
from medadv.datasets.source import Listing
from medadv.datasets.tables import list_csv, list_decathlon
from medadv.datasets.trees import list_dicom, list_folders
from medadv.datasets.yolo import list_yolo
from medadv.spec.data import DataSettings


def list_samples(data: DataSettings, base: Path) -> Listing:
    """Samples as the layout names them, or the part of them that is asked for. SpecError when the layout itself is wrong."""
    listing = _whole(data, base)
    return listing if data.part is None else part_of(listing, data.part)


def _whole(data: DataSettings, base: Path) -> Listing:
    path = base / data.path
    if data.layout in ("folders", "nnunet"):
        return (list_folders if data.layout == "folders" else list_nnunet)(path, data)
    layouts = {"csv": list_csv, "decathlon": list_decathlon, "coco": list_coco, "yolo": list_yolo, "dicom": list_dicom}
    return layouts[data.layout](path, data, base)
