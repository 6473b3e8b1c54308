"""Which samples does a layout name?"""

from pathlib import Path

from medadv.datasets.source import Listing
from medadv.datasets.tables import list_coco, list_csv, list_decathlon
from medadv.datasets.trees import list_dicom, list_folders, list_yolo
from medadv.spec.data import DataSettings


def list_samples(data: DataSettings, base: Path) -> Listing:
    """Samples as the layout names them. SpecError when the layout itself is wrong."""
    path = base / data.path
    if data.layout == "dicom":
        return list_dicom(path, data, base)
    layouts = {"csv": list_csv, "decathlon": list_decathlon, "coco": list_coco, "yolo": list_yolo, "folders": list_folders}
    return layouts[data.layout](path, data)
