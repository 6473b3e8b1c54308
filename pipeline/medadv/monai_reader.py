"""Corpora for plain MONAI pipelines: names such as shard-00000.h5#SAMPLE/smia-4, a reader for LoadImage, and a datalist."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.utils.enums import MetaKeys, SpaceKeys

from medadv.answers import Array, Boxes
from medadv.store.codecs import require_codec
from medadv.store.reader import adversarial_image, open_files, read_answer
from medadv.training.location import corpus_folder, is_address, read_corpus_manifest, split_address


class CorpusReader(ImageReader):
    """Lets LoadImage read samples by name: `LoadImaged(keys, reader=CorpusReader, ensure_channel_first=True)`.

    It has to be named: by itself MONAI tries none but its own readers. A name is SHARD.h5#SAMPLE for the clean image,
    SHARD.h5#SAMPLE/ATTACK for the adversarial one, and SHARD.h5#SAMPLE/label or SHARD.h5#SAMPLE/region for masks. Images come as stored:
    (C, *spatial) in stored units; masks (1, *spatial), or (K, *spatial) where each class has its own, with the affine of their image.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Whether every name is one of a corpus."""
        names = [filename] if isinstance(filename, str | Path) else filename
        return all(is_address(str(name)) for name in names)

    def read(self, data: Any, **kwargs: Any) -> Any:
        """The names, to be read by `get_data`: what goes wrong here LoadImage takes for a reader that is not installed."""
        return [str(name) for name in ([data] if isinstance(data, str | Path) else data)]

    def get_data(self, img: Any) -> tuple[Array, dict[str, Any]]:
        """Array (C, *spatial) and meta data; several images are stacked along the channels.

        Raises FileNotFoundError or ValueError where there is no such shard, sample or attack.
        """
        img = [_read(name) for name in img]
        arrays = [array for array, _, _ in img]
        affine = img[0][1]
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        meta: dict[str, Any] = {MetaKeys.ORIGINAL_CHANNEL_DIM: 0, MetaKeys.SPATIAL_SHAPE: array.shape[1:]}
        if affine is not None:
            meta |= {MetaKeys.AFFINE: affine, MetaKeys.ORIGINAL_AFFINE: affine.copy(), MetaKeys.SPACE: SpaceKeys.RAS}
        return array, meta


def datalist(corpus: str | Path, attack: str | None = None) -> list[dict[str, Any]]:
    """Every sample as a dictionary of names and plain values, for CacheDataset, PersistentDataset and other MONAI datasets.

    Keys: `image`, `adversarial` (names for CorpusReader), `label` (int, list, or a name for masks) or `boxes`, `classes` (lists) and
    `spatial_axes` (their image's, for BoxesToTensorAxesd), `sample_id`, `group_id`.
    """
    root = corpus_folder(corpus)
    manifest = read_corpus_manifest(root)
    require_codec(manifest["execution"]["codec"])
    known = list(manifest["attacks"])
    name = known[0] if attack is None else attack
    if name not in known:
        raise ValueError(f"attack {name!r} is not in this corpus; there are {', '.join(known)}")
    items = []
    for entry in manifest["shards"]:
        path = root / entry["path"]
        file = open_files(path)
        for row, sample in enumerate(_rows(path)):
            address = f"{path}#{sample}"
            item = {"image": address, "adversarial": f"{address}/{name}", "sample_id": sample}
            item |= {"group_id": bytes(file["group_id"][row]).decode(), **_label(file, row, address)}
            items.append(item)
    return items


def _label(file: Any, row: int, address: str) -> dict[str, Any]:
    if getattr(file["label"], "ndim", 0) > 2:
        return {"label": f"{address}/label"}
    label = read_answer(file, "label", row)
    if isinstance(label, Boxes):
        return {"boxes": label.boxes.tolist(), "classes": label.classes.tolist(), "spatial_axes": str(file.attrs["spatial_axes"])}
    return {"label": label.tolist()}


def _read(name: str) -> tuple[Array, Array | None, str]:
    path, sample, part = split_address(name)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such shard; where a corpus was moved, its names are made anew by medadv.datalist")
    file = open_files(path)
    row = _rows(path).get(sample)
    if row is None:
        raise ValueError(f"{name}: no sample {sample!r} in this shard; the corpus was made anew, and names follow from medadv.datalist")
    if part not in ("", "label", "region", *file["attacks"]):
        raise ValueError(f"{name}: attack {part!r} is not in this corpus; there are {', '.join(file['attacks'])}")
    if part in ("label", "region") and getattr(file.get(part), "ndim", 0) < file["image"].ndim - 2:
        raise ValueError(f"{name}: this corpus has no masks under {part!r}; classes and boxes stand in medadv.datalist's own items")
    affine = np.asarray(file["affine"][row]) if "affine" in file else None
    if part in ("label", "region"):
        array = np.asarray(file[part][row])
        # An index mask gets a channel axis, so that it loads like its image.
        return (array[None] if array.ndim == file["image"].ndim - 2 else array), affine, name
    image = np.asarray(file["image"][row])
    if part:
        image = adversarial_image(image, np.asarray(file[f"attacks/{part}/perturbation"][row]))
    return image, affine, name


@lru_cache(maxsize=4096)
def _rows(path: Path) -> dict[str, int]:
    """Sample id -> row of a shard."""
    return {bytes(value).decode(): row for row, value in enumerate(open_files(path)["sample_id"][...])}
