"""Which corpora make one data set? Each opened as its manifest has it, and all of one kind."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medadv.common.hashing import hash_file
from medadv.corpus.manifest import Manifest
from medadv.spec.attack import AttackSettings
from medadv.spec.data import class_names
from medadv.store.codecs import require_codec
from medadv.training.held import HeldShards
from medadv.training.location import Opening


@dataclass(frozen=True)
class CorpusPart:
    """One of the corpora that a data set reads, and whose examples it reads there."""

    root: Path
    manifest: Manifest
    shards: HeldShards
    attacks: list[str]


def open_parts(corpora: Sequence[str | Path], attacks: Sequence[str] | None, how: Opening) -> list[CorpusPart]:
    """The corpora in their order.

    corpora: folders that hold manifest.json, or these files, or addresses.  attacks: read in every corpus; the first of each, of several
    victims the first against each, when None.
    Raises IntegrityError and SpecError as CorpusDataset does, ValueError where there is no corpus, one has no such attack, or two differ.
    """
    if not corpora:
        raise ValueError("corpus=[] names no corpus: give one folder, or a sequence of them")
    parts = [_opened(corpus, attacks, how) for corpus in corpora]
    for part in parts[1:]:
        _agree(parts[0], part)
    return parts


def warn_of_other_weights(parts: Sequence[CorpusPart], weights: Path) -> None:
    """Warn where none of the corpora was made for the model in this file."""
    found, newest = hash_file(weights), parts[-1]
    made_for = [part.manifest.victim.weights_sha256 for part in parts]
    others = {facts.weights_sha256 for part in parts for facts in part.manifest.victims.values()}
    if found not in {*made_for, *others}:
        warnings.warn(
            f"{newest.root} was made for weights {made_for[-1][:12]}…, {weights.name} is {found[:12]}…: its examples are transferred, "
            "and weaker against this model; make a corpus against it",
            UserWarning,
            stacklevel=3,
        )


def _opened(corpus: str | Path, attacks: Sequence[str] | None, how: Opening) -> CorpusPart:
    root, manifest, shards = how.opened(corpus)
    require_codec(manifest.execution.codec)
    known = list(manifest.attacks)
    wanted = _firsts(manifest.attacks) if attacks is None else list(attacks)
    if not wanted:
        raise ValueError("attack=[] names none: leave it out, or name " + ", ".join(known))
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"attack {unknown[0]!r} is not in this corpus; there are {', '.join(known)} ({root})")
    return CorpusPart(root, manifest, shards, wanted)


def _firsts(attacks: Mapping[str, AttackSettings]) -> list[str]:
    """The first attack against each victim.

    One on the mean of several victims' losses is a single perturbation under a name for each: it stands in, once, for victims that have no
    attack of their own.
    """
    own: dict[str | None, str] = {}
    joint: dict[str, str] = {}
    for name, settings in attacks.items():
        if settings.combine is None:
            own.setdefault(settings.victim, name)
    for name, settings in attacks.items():
        if settings.victim not in own:
            joint.setdefault(settings.drawn_as(name), name)
    return [name for name in attacks if name in {*own.values(), *joint.values()}]


def _agree(first: CorpusPart, other: CorpusPart) -> None:
    """Raise ValueError where samples of both would not fit into one batch, or would mean something else there."""
    there = _kind(other)
    for what, value in _kind(first).items():
        if value != there[what]:
            raise ValueError(
                f"{first.root} and {other.root} differ in {what}: {_shown(value)} and {_shown(there[what])}; "
                "read each as a data set of its own"
            )


def _kind(part: CorpusPart) -> dict[str, str | list[str] | None]:
    data, paths = part.manifest.data, part.shards.paths
    axes = str(part.shards.open(paths[0]).attrs["spatial_axes"]) if paths else None
    # A label map whose names are in the order of the alphabet has no `classes` beside it.
    return {"task": data.task, "modality": data.modality, "unit": data.unit, "classes": class_names(data) or None, "spatial axes": axes}


def _shown(value: str | list[str] | None) -> str:
    return "none named" if value is None else ", ".join(value) if isinstance(value, list) else str(value)
