"""What does a committed shard say of itself? `shards/shard-00000.json`, as a typed record, and how it is read and written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medadv.common.errors import IntegrityError
from medadv.common.hashing import canonical_json, hash_bytes, hash_value
from medadv.common.record import Closed, Count, NoJsonError, RecordError, Sha256, parse, plain
from medadv.corpus.folder import Workspace
from medadv.corpus.quarantine import QuarantineRecord
from medadv.store.layout import SAMPLE_ID


class Outcome(Closed):
    """What one attack did to one sample, measured on the sample read back from the shard."""

    success: Literal[0, 1]
    linf: Count = Field(description="largest absolute perturbation, stored units")
    l2: float = Field(ge=0, description="Euclidean norm of the perturbation, stored units")
    score_clean: float = Field(description="probability of the truth, Dice, or AP of the image")
    score_adversarial: float
    attackable: Literal[0, 1] | None = Field(
        None, description="attacks with a goal: whether it was left to be reached when clean; without one that follows from the answers"
    )


class SampleRecord(Closed):
    """One sample of a shard, in the shard's order."""

    id: str = Field(pattern=f"^{SAMPLE_ID}$")
    place: tuple[Count, Count] = Field(description="planned batch of the shard, and position in it")
    facts: dict[str, Any] = Field(description="allow-listed facts of the input")
    attacks: dict[str, Outcome]
    hashes: dict[str, Sha256] = Field(description="array -> hash of this sample's part")


class Repeat(Closed):
    """One batch attacked twice."""

    attack: str
    samples: Count
    equal: bool


class Receipt(Closed):
    """`shards/shard-00000.json`: once it exists, the shard is committed."""

    format: Literal["medadv"]
    format_version: Literal[1]
    shard: str
    plan: Sha256
    generation: Count
    samples: Count
    batches: list[list[str | None]] = Field(description="sample ids as planned; an empty place stays empty")
    quarantined: list[QuarantineRecord]
    bytes: Count
    sha256: Sha256 | None = Field(description="of the HDF5 file; null without samples, for then there is none")
    content_root: Sha256
    arrays: dict[str, Sha256] = Field(description="array -> hash of its type, shape and values")
    records: list[SampleRecord]
    repeat: Repeat | None = None
    extents: dict[str, list[tuple[int | None, Count, Count, Count]]] = Field(
        default_factory=dict, description="array -> sample index, offset, bytes and CRC-32 of each stored piece"
    )


def content_root(arrays: Mapping[str, str], records: Sequence[SampleRecord]) -> str:
    """Identity of a shard's content: decoded arrays and result records; no group ids, times, hosts or paths."""
    return hash_value({"arrays": dict(arrays), "records": [plain(record) for record in records]})


def receipt_bytes(receipt: Receipt) -> bytes:
    """The file's content."""
    return canonical_json(plain(receipt)) + b"\n"


def read_receipt(workspace: Workspace, name: str) -> Receipt:
    """A committed shard's receipt. IntegrityError where it cannot be read."""
    try:
        return parse(Receipt, workspace.receipt(name).read_bytes())
    except (OSError, RecordError):
        raise IntegrityError(f"shards/{name}.json: receipt cannot be read") from None


def committed(workspace: Workspace, name: str, plan: str) -> Receipt | None:
    """The receipt of a shard that is committed under a plan, None when it has none.

    Raises:
        IntegrityError: the receipt is damaged, belongs to another plan, or its file is missing or of another size.
    """
    try:
        receipt = parse(Receipt, workspace.receipt(name).read_bytes())
    except FileNotFoundError:
        return None
    except RecordError:
        receipt = None
    advice = f"see `medadv verify`; to have the shard made again, remove shards/{name}.json"
    if receipt is None or receipt.plan != plan or receipt.shard != name:
        raise IntegrityError(f"shards/{name}.json is damaged, or the receipt of another plan; {advice}")
    file = workspace.shard(name)
    if receipt.bytes and (not file.exists() or file.stat().st_size != receipt.bytes):
        raise IntegrityError(f"shards/{name}.h5 is missing, or not the file that was committed; {advice}")
    return receipt


def load_receipt(path: Path, sha256: str) -> tuple[Receipt | None, str | None]:
    """A receipt whose bytes and shape are as the manifest has them, or None and what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError:
        return None, "receipt missing"
    if hash_bytes(data) != sha256:
        return None, "receipt changed: its bytes differ from the manifest"
    try:
        return parse(Receipt, data), None
    except NoJsonError as error:
        return None, f"receipt {error}"
    except RecordError as error:
        return None, f"is no receipt: {error}"
