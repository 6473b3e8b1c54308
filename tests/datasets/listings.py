"""Folders to list, read and survey, and the files in them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.datasets.source import Listing
from medadv.prepare.survey import Survey, survey
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.reading import parse_spec


def settings_of(**data: Any) -> DataSettings:
    return DataSettings.model_validate({"modality": "endoscopy", "task": "detection", "path": ".", **data})


def listed(folder: Path, **data: Any) -> Listing:
    return list_samples(settings_of(**data), folder)


def read_all(folder: Path, overlapping: bool = False, preprocess: dict[str, Any] | None = None, **data: Any) -> list[Sample]:
    listing = listed(folder, **data)
    reader = Reader(listing.root, settings_of(**data), PreprocessSettings.model_validate(preprocess or {}), overlapping)
    return [reader.read(part) for source in listing.sources for part in reader.expand(source)]


def surveyed(folder: Path, preprocess: dict[str, Any] | None = None, head: str = "softmax", **data: Any) -> Survey:
    modality = data.get("modality", "endoscopy")
    spec = {
        "name": "x",
        "data": {"modality": "endoscopy", "task": "detection", "path": ".", **data},
        "preprocess": preprocess if preprocess is not None else {"size": [32, 32]},
        "victim": {
            "network": "monai:unet",
            "head": head,
            "normalize": {"window": [-1000, 400]} if modality == "ct" else {"mean": [0.5] * 3, "std": [0.5] * 3},
        },
        "attacks": {"a": {"attack": "pgd", "epsilon": 4}},
    }
    return survey(parse_spec(spec, "spec"), folder, FileHashes(None), b"key")


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 20), **options: Any) -> Path:
    """A picture like no other, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path
