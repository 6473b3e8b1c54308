"""DICOM UIDs that follow from what they name, so that an export made again is recognised."""

from uuid import UUID, uuid5

from pydicom.uid import UID

from medadv.common.hashing import canonical_json

NAMES = UUID("d9e4ac2c-0c0b-4a6e-8e5e-5b1f6a1f2f60")
"""Name space of the UUIDs, RFC 9562 section 5.5."""


def uid_of(what: str, *parts: str | int | None) -> UID:
    """The UID of a thing by its name: 2.25 and a UUID made from it, as PS3.5 section B.2 has it."""
    return UID(f"2.25.{uuid5(NAMES, canonical_json([what, *parts]).decode()).int}")
