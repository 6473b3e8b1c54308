"""Corpora for plain MONAI pipelines: names such as shard-00000.h5#/SAMPLE_smia-4.h5, a reader for LoadImage, and a datalist."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.utils.enums import MetaKeys, SpaceKeys

from medadv.common.errors import IntegrityError
from medadv.common.hashing import FileIdentity, file_identity
from medadv.corpus.folder import corpus_folder
from medadv.corpus.opening import ADVICE, reading
from medadv.datasets.labels import Array, Boxes
from medadv.store.codecs import require_codec
from medadv.store.reader import adversarial_image, open_files, read_answer
from medadv.training.held import HeldShards
from medadv.training.location import is_address, read_corpus_manifest, split_address

Items = list[dict[str, Any]]


class CorpusReader(ImageReader):
    """Lets LoadImage read samples by name: `LoadImaged(keys, reader=CorpusReader, ensure_channel_first=True)`.

    It has to be named: by itself MONAI tries none but its own readers. A name is SHARD.h5#/SAMPLE_WHAT.h5, as if the shard were a folder
    of files called as `medadv export` calls them, so that SaveImage gives each a name of its own. WHAT is an attack for the adversarial
    image, or `clean`, `label` or `region`. The shorter SHARD.h5#SAMPLE (clean) and SHARD.h5#SAMPLE/WHAT are read too. Images come as
    stored, (C, *spatial) in stored units; masks (1, *spatial), or (K, *spatial) where each class has its own, with the affine of their
    image. 2D images and masks of one channel come without that axis, as from MONAI's own readers, since SaveImage writes only such:
    `ensure_channel_first=True` gives (1, *spatial). A shard that is a symbolic link is read with `links=True`.
    """

    def __init__(self, *, links: bool = False) -> None:
        """links: follow shards that are symbolic links."""
        super().__init__()
        self.links = links

    def verify_suffix(self, filename: Any) -> bool:
        """Whether every name is one of a corpus."""
        names = [filename] if isinstance(filename, str | Path) else filename
        return all(is_address(str(name)) for name in names)

    def read(self, data: Any, **kwargs: Any) -> Any:
        """The names, to be read by `get_data`: what goes wrong here LoadImage takes for a reader that is not installed."""
        return [str(name) for name in ([data] if isinstance(data, str | Path) else data)]

    def get_data(self, img: Any) -> tuple[Array, dict[str, Any]]:
        """Array (C, *spatial), or (*spatial) of a 2D image of one channel, and meta data; several are stacked along the channels.

        Raises FileNotFoundError or ValueError where there is no such shard, sample or attack, or the name means two things.
        """
        img = [_read(name, self.links) for name in img]
        arrays = [array for array, _, _ in img]
        affine = img[0][1]
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        meta: dict[str, Any] = {MetaKeys.ORIGINAL_CHANNEL_DIM: 0, MetaKeys.SPATIAL_SHAPE: array.shape[1:]}
        if array.ndim == 3 and len(array) == 1:
            # SaveImage takes a plane of one channel for a line unless its meta data says that it came without a channel.
            array, meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = array[0], float("nan")
        if affine is not None:
            meta |= {MetaKeys.AFFINE: affine, MetaKeys.ORIGINAL_AFFINE: affine.copy(), MetaKeys.SPACE: SpaceKeys.RAS}
        return array, meta


def datalist(corpus: str | Path, attack: str | None = None, *, relative_to: str | Path | None = None, links: bool = False) -> Items:
    """Every sample as a dictionary of names and plain values, for CacheDataset, PersistentDataset and other MONAI datasets.

    Keys: `image`, `adversarial` (names for CorpusReader), `label` (int, list, or a name for masks) or `boxes`, `classes` (lists) and
    `spatial_axes` (their image's, for BoxesToTensorAxesd), `sample_id`, `group_id`, `content_root` (of the shard, so that what is cached of
    a corpus is not taken for one made anew there).

    corpus: folder that holds manifest.json.  attack: whose examples to name; the corpus's first when None.  relative_to: folder that the
    names start from; absolute names, which hold wherever they are read, when None.  links: follow files that are links.
    Raises IntegrityError, ValueError.
    """
    root = corpus_folder(corpus)
    manifest = read_corpus_manifest(root, links=links, check=True)
    require_codec(manifest.execution.codec)
    known = list(manifest.attacks)
    name = known[0] if attack is None else attack
    if name not in known:
        raise ValueError(f"attack {name!r} is not in this corpus; there are {', '.join(known)}")
    shards = HeldShards(root, manifest, links=links)
    items = []
    for path, entry in shards.entries.items():
        file = shards.open(path)
        shown = path if relative_to is None else os.path.relpath(path, Path(relative_to).absolute())
        for row, sample in enumerate(_rows(path, file_identity(path))):
            address = f"{shown}#/{sample}"
            item = {"image": f"{address}_clean.h5", "adversarial": f"{address}_{name}.h5", "sample_id": sample}
            item |= {"group_id": bytes(file["group_id"][row]).decode(), **_label(file, row, address)}
            items.append(item | {"content_root": entry.content_root})
    return items


def _label(file: Any, row: int, address: str) -> dict[str, Any]:
    if getattr(file["label"], "ndim", 0) > 2:
        return {"label": f"{address}_label.h5"}
    label = read_answer(file, "label", row)
    if isinstance(label, Boxes):
        return {"boxes": label.boxes.tolist(), "classes": label.classes.tolist(), "spatial_axes": str(file.attrs["spatial_axes"])}
    return {"label": label.tolist()}


def _read(name: str, links: bool) -> tuple[Array, Array | None, str]:
    path, sample, what, words = split_address(name)
    if not links and (path.is_symlink() or path.parent.is_symlink()):
        raise IntegrityError(f"{path} is a link: {ADVICE}")
    with reading(path, OSError, KeyError):
        return _read_part(name, path, sample, what, words)


def _read_part(name: str, path: Path, sample: str, what: str, words: tuple[str, ...]) -> tuple[Array, Array | None, str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such shard; where a corpus was moved, its names are made anew by medadv.datalist")
    file = open_files(path)
    row = _rows(path, file_identity(path)).get(sample)
    if row is None:
        raise ValueError(f"{name}: no sample {sample!r} in this shard; the corpus was made anew, and names follow from medadv.datalist")
    attacks = list(file["attacks"])
    if what in words and what in attacks:
        raise ValueError(f"{name}: this corpus has an attack called {what!r}, so the name means two things: CorpusDataset reads both")
    if what not in (*words, *attacks):
        raise ValueError(f"{name}: attack {what!r} is not in this corpus; there are {', '.join(attacks)}")
    if what in ("label", "region") and getattr(file.get(what), "ndim", 0) < file["image"].ndim - 2:
        raise ValueError(f"{name}: this corpus has no masks under {what!r}; classes and boxes stand in medadv.datalist's own items")
    affine = np.asarray(file["affine"][row]) if "affine" in file else None
    if what in ("label", "region"):
        array = np.asarray(file[what][row])
        # An index mask gets a channel axis, so that it loads like its image.
        return (array[None] if array.ndim == file["image"].ndim - 2 else array), affine, name
    image = np.asarray(file["image"][row])
    if what in attacks:
        image = adversarial_image(image, np.asarray(file[f"attacks/{what}/perturbation"][row]))
    return image, affine, name


@lru_cache(maxsize=4096)
def _rows(path: Path, identity: FileIdentity) -> dict[str, int]:
    """Sample id -> row of a shard, as long as it is the same file."""
    return {bytes(value).decode(): row for row, value in enumerate(open_files(path)["sample_id"][...])}
