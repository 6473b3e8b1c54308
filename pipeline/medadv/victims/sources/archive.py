"""Program files as what they are: zip archives of named records, read once and written anew from what was looked at."""

import io
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import torch

ROOM_BYTES = 256 << 20
"""What records may unpack to beyond the size of their file: only text is packed in these archives."""


class NotComputing(ValueError):
    """A program of which it cannot be said that it only computes; the text says why."""


def records_of(data: bytes) -> dict[str, bytes]:
    """Records of a program's archive by name, without the folder that all of them lie in.

    Raises:
        NotComputing: two records of one name, which two readers may read differently; more than a file of that size holds.
        ValueError: no such archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            folders = {entry.filename.partition("/")[0] for entry in entries}
            names = [entry.filename.partition("/")[2] for entry in entries]
            if len(folders) != 1 or not all(names):
                raise ValueError("no archive of one folder")
            if len(set(names)) != len(names):
                raise NotComputing("a record stands twice in it")
            if sum(entry.file_size for entry in entries) > len(data) + ROOM_BYTES:
                raise NotComputing("its records unpack to more than programs hold")
            return {name: archive.read(entry) for name, entry in zip(names, entries, strict=True)}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(str(error)) from None


def archive_of(records: Mapping[str, bytes]) -> io.BytesIO:
    """An archive of these records alone, as torch reads it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(f"program/{name}", data)
    stream.seek(0)
    return stream


def as_weights(data: bytes, what: str) -> bytes:
    """Pickled tensors, read as weights and pickled anew.  NotComputing: they are more than a `weights_only` reader takes."""
    if not data:
        return data
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        stream = io.BytesIO()
        torch.save(loaded, stream)
    except Exception:  # torch raises many types here
        raise NotComputing(f"{what} are pickled Python objects") from None
    return stream.getvalue()


class _Stub:
    """Stands for whatever a pickle names: it keeps nothing, and does nothing."""

    def __init__(self, *arguments: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


SIZES = {"Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Byte": 1, "Char": 1, "Short": 2, "Int": 4, "Long": 8, "Bool": 1}
SIZES |= {"ComplexFloat": 8, "ComplexDouble": 16, "ComplexHalf": 4}
"""Bytes of a number in each kind of storage."""
OWN = re.compile(r"__torch__(?!\.torch\.classes)(\.\w+)*\Z")
TENSORS = {
    "collections": ("OrderedDict",),
    "torch": ("device", *(f"{kind}Storage" for kind in SIZES)),
    "torch._utils": ("_rebuild_tensor_v2",),
    "torch.jit._pickle": ("restore_type_tag", "build_tensor_from_id", *(f"build_{one}list" for one in ("int", "double", "bool", "tensor"))),
}
"""What objects are made of, beside the archive's own types."""


class ObjectsRead(pickle.Unpickler):
    """Reads a TorchScript module's objects as stubs, and holds their names and storages against what the archive has.

    Loading it raises NotComputing for a name that is none of the archive's own types or torch's tensors.
    """

    def __init__(self, data: bytes, storages: Mapping[str, bytes]) -> None:
        super().__init__(io.BytesIO(data))
        self.storages = storages

    def find_class(self, module: str, name: str) -> type[_Stub]:
        """A stub that bears the name; NotComputing for names that are not known."""
        if name not in TENSORS.get(module, ()) and not (OWN.match(module) and name.isidentifier()):
            raise NotComputing(f"its objects name {printable(f'{module}.{name}')}")
        return type(name, (_Stub,), {})

    def persistent_load(self, pid: Any) -> _Stub:
        """A storage; NotComputing unless the archive holds all of it."""
        kind, storage, key, _, count = pid
        size = SIZES[storage.__name__.removesuffix("Storage")] * count
        if kind != "storage" or count < 0 or (size and len(self.storages.get(key, b"")) < size):
            raise NotComputing("a tensor of it is larger than its record")
        return _Stub()


def printable(text: str) -> str:
    """Text of a stranger's file, fit to be shown in a line."""
    return "".join(character if character.isprintable() else "?" for character in text[:80])
