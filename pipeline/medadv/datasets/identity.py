"""What makes a sample the one it is? The content of its files."""

from medadv.common.hashing import hash_value
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.reader import Reader
from medadv.datasets.source import Source

ID_LENGTH = 32


def content_of(source: Source, reader: Reader, hashes: FileHashes) -> tuple[str, str]:
    """Sample id: hash of the image files' content, and the slice. Label hash: the label's value or its files' content.

    The slices of a source share both hashes, which stay with the source while it is open.
    """
    opened = None if source.index is None else reader.opened(source)
    if opened is None:
        return _hashes(source, reader, hashes)
    if opened.content is None:
        opened.content = _hashes(source, reader, hashes)
    identity, label = opened.content
    return f"{identity}-{source.index:04d}", label


def _hashes(source: Source, reader: Reader, hashes: FileHashes) -> tuple[str, str]:
    images = sorted(hashes.of(reader.root / name) for name in source.images)
    content = images[0] if len(images) == 1 else hash_value(images)
    label = [hashes.of(reader.root / name) for name in source.masks] or source.label
    return content[:ID_LENGTH], hash_value(label)
