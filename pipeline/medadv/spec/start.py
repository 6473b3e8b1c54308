"""Where does an attack go on from an earlier corpus? As a spec asks for it, by folder, and as plans and manifests keep it, by content root.

Warm starts: Zheng, Zhang, Gu, Lee, Prakash, Efficient Adversarial Training with Transferable Adversarial Examples, CVPR 2020
(arXiv 1912.11969).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError

from medadv.common.record import Sha256
from medadv.spec.base import Name, Settings

WHY_COLD = {
    "square": "its first queries are stripes of its own",
    "sea": "each of its runs begins in a larger ball",
    "universal": "it is fitted from nothing, or from one random start",
    "ensemble": "its members begin each for itself",
}
"""Attacks that do not go on from another corpus, and why."""
MEANT = "write start: {corpus: FOLDER}, and attack: NAME beside it where the attack is called otherwise there"


class CorpusStart(Settings):
    """A spec's: the perturbations of another corpus."""

    corpus: str = Field(min_length=1, description="folder of another corpus, relative to the spec; plans name it by its content root alone")
    attack: Name | None = Field(None, description="whose perturbations there; left out: of the attack of the same name")


class PlannedStart(Settings):
    """A plan's and a manifest's: the same, without a path."""

    content_root: Sha256 = Field(description="of the other corpus")
    attack: Name = Field(description="whose perturbations there")


Start = Name | CorpusStart | PlannedStart
"""A name is another attack of the same spec."""


def as_start(given: Any) -> Any:
    """A setting as it was written or stored, None and names as they are. ValueError, in one line, where it is neither."""
    if not isinstance(given, Mapping):
        if given is None or isinstance(given, str | CorpusStart | PlannedStart):
            return given
        raise ValueError(f"start={given!r}: name another attack of the spec, or another corpus: {MEANT}")
    try:
        return (PlannedStart if "content_root" in given else CorpusStart).model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in ("start", *first["loc"]))
        raise ValueError(f"{key}: {first['msg']}: {MEANT}") from None


def refuse_planned(starts: Iterable[tuple[str, Any]]) -> None:
    """Raise ValueError where a spec says what only a plan does.  starts: by the attack's name."""
    for name, start in starts:
        if isinstance(start, PlannedStart):
            raise ValueError(f"attacks.{name}.start.content_root is what a plan says, and finds no corpus: {MEANT}")


def refuse_folders(starts: Iterable[tuple[str, Any]]) -> None:
    """Raise ValueError where a plan or a manifest names a folder.  starts: by the attack's name."""
    for name, start in starts:
        if isinstance(start, CorpusStart):
            raise ValueError(f"attacks.{name}.start names a folder")
