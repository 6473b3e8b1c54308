"""What does a committed shard say of itself? `shards/shard-00000.json`, as a typed record, and how it is read."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medadv.common.errors import IntegrityError
from medadv.common.hashing import hash_bytes
from medadv.corpus.folder import Workspace
from medadv.corpus.quarantine import QuarantineRecord
from medadv.corpus.record import Closed, Count, Sha256, shape_problem
from medadv.store.layout import FORMAT


def committed(workspace: Workspace, name: str, plan: str) -> dict[str, Any] | None:
    """The receipt of a shard that is committed under a plan, None when it has none.

    Raises:
        IntegrityError: the receipt is damaged, belongs to another plan, or its file is missing or of another size.
    """
    path = workspace.receipt(name)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        receipt = json.loads(content)
        own = receipt["plan"] == plan and receipt["shard"] == name
        size = receipt["bytes"]
    except (ValueError, KeyError, TypeError):
        own, receipt, size = False, {}, 0
    advice = f"see `medadv verify`; to have the shard made again, remove shards/{name}.json"
    if not own:
        raise IntegrityError(f"shards/{name}.json is damaged, or the receipt of another plan; {advice}")
    file = workspace.shard(name)
    if size and (not file.exists() or file.stat().st_size != size):
        raise IntegrityError(f"shards/{name}.h5 is missing, or not the file that was committed; {advice}")
    return dict(receipt)


def receipt_name(entry: dict[str, Any]) -> str:
    """Published name of the receipt of a shard in the manifest."""
    return str(entry["path"]).removesuffix(".h5") + ".json"


def load_receipt(root: Path, entry: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """A receipt whose bytes and shape are as committed, or None and what is wrong with it."""
    try:
        data = (root / receipt_name(entry)).read_bytes()
    except OSError:
        return None, "receipt missing"
    if hash_bytes(data) != entry["receipt_sha256"]:
        return None, "receipt changed: its bytes differ from the manifest"
    try:
        receipt = json.loads(data)
    except ValueError:
        return None, "receipt is no JSON"
    problem = shape_problem(Receipt, receipt)
    return (None, f"is no receipt: {problem}") if problem else (receipt, None)


class Outcome(Closed):
    """What one attack did to one sample, measured on the sample read back from the shard."""

    success: Literal[0, 1]
    linf: Count = Field(description="largest absolute perturbation, stored units")
    l2: float = Field(ge=0, description="Euclidean norm of the perturbation, stored units")
    score_clean: float = Field(description="probability of the truth, Dice, or AP of the image")
    score_adversarial: float


class SampleRecord(Closed):
    """One sample of a shard, in the shard's order."""

    id: str = Field(min_length=1)
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


def read_receipt(workspace: Workspace, name: str) -> dict[str, Any]:
    """A committed shard's receipt."""
    try:
        receipt = json.loads(workspace.receipt(name).read_bytes())
        if not isinstance(receipt, dict) or receipt.get("format") != FORMAT:
            raise ValueError
    except (OSError, ValueError):
        raise IntegrityError(f"shards/{name}.json: receipt cannot be read") from None
    return receipt
