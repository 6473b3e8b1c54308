"""The plan on disk: written once, read by everything after."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medadv.errors import IntegrityError, SpecError
from medadv.hashing import canonical_json
from medadv.plan.model import MEANING_VERSION, PlannedShard, plan_hash


@dataclass(frozen=True)
class FrozenPlan:
    """Head of a generation's plan; the shards stay on disk, one line each."""

    folder: Path
    generation: int
    settings: dict[str, Any]
    hash: str
    first_shard: int
    """Index of the first shard of this generation."""
    shards: int
    samples: int
    spec: dict[str, Any]
    """The run spec as parsed: private, since it names paths."""
    base: str
    """Folder of the spec: private."""
    root: str
    """Data root: private."""
    replaces: tuple[int, ...] = ()
    """Shards of earlier generations that this one stands for, since a patient was to be forgotten."""
    tuning: tuple[dict[str, Any], ...] = ()
    """What the choice of an execution profile rested on. Times differ from run to run, so the hash leaves them out."""

    def lines(self) -> Iterator[PlannedShard]:
        """The shards in order."""
        with (self.folder / "shards.jsonl").open(encoding="utf-8") as stream:
            for line in stream:
                yield PlannedShard.from_dict(json.loads(line))


def freeze(
    folder: Path,
    generation: int,
    settings: dict[str, Any],
    shards: list[PlannedShard],
    spec: dict[str, Any],
    base: Path,
    root: Path,
    *,
    first_shard: int = 0,
    replaces: Sequence[int] = (),
    tuning: Sequence[dict[str, Any]] = (),
) -> FrozenPlan:
    """Write a plan that no run has written before; its head comes last and marks it as whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "shards.jsonl").open("wb") as stream:
        for shard in shards:
            stream.write(canonical_json(shard.as_dict()) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    head = {
        "generation": generation,
        "settings": settings,
        "hash": plan_hash(settings, [s.digest for s in shards]),
        "first_shard": first_shard,
        "shards": len(shards),
        "samples": sum(len(s.samples) for s in shards),
        "spec": spec,
        "base": str(base),
        "root": str(root),
        "replaces": sorted(replaces),
        "tuning": list(tuning),
    }
    temporary = folder / f".tmp-plan-{os.getpid()}"
    with temporary.open("xb") as stream:
        stream.write(canonical_json(head))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(temporary, folder / "plan.json")  # unlike rename, fails where a plan stands already
    except FileExistsError:
        raise IntegrityError(f"{folder / 'plan.json'} was written by another run meanwhile") from None
    finally:
        temporary.unlink()
    return thaw(folder)


def thaw(folder: Path) -> FrozenPlan:
    """Read a frozen plan's head."""
    try:
        head = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        return FrozenPlan(folder, **{**head, **{key: tuple(head.get(key, ())) for key in ("replaces", "tuning")}})
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(f"{folder / 'plan.json'} cannot be read ({type(error).__name__})") from None


def generations(plans: Path) -> list[FrozenPlan]:
    """The frozen plans of a corpus, oldest first. A plan without its head was never begun and does not count."""
    if not plans.is_dir():
        return []
    return [thaw(folder) for folder in sorted(plans.iterdir()) if (folder / "plan.json").exists()]


def retired(plans: Iterable[FrozenPlan]) -> set[int]:
    """Shards that a later generation stands for: their files are gone, and their numbers are not used again."""
    return {index for plan in plans for index in plan.replaces}


def live(plans: Sequence[FrozenPlan]) -> Iterator[tuple[FrozenPlan, int]]:
    """Every shard that the corpus consists of or is to consist of, in order: its plan and its number."""
    gone = retired(plans)
    for plan in plans:
        for index in range(plan.first_shard, plan.first_shard + plan.shards):
            if index not in gone:
                yield plan, index


def live_lines(plans: Sequence[FrozenPlan]) -> Iterator[tuple[FrozenPlan, PlannedShard]]:
    """The same, with the planned shards themselves."""
    gone = retired(plans)
    for plan in plans:
        for shard in plan.lines():
            if shard.index not in gone:
                yield plan, shard


def next_shard(plans: Sequence[FrozenPlan]) -> int:
    """Number of the first shard of the next generation."""
    return sum(plan.shards for plan in plans)


def meaning_of(plans: Sequence[FrozenPlan]) -> int:
    """The meaning version that a corpus was begun with; the present one where there is no corpus yet."""
    return int(plans[0].settings["meaning"]) if plans else MEANING_VERSION


def refuse_other_meaning(plans: Sequence[FrozenPlan], corpus: Path) -> None:
    """Raise SpecError where the same settings would now give other bits than the corpus holds."""
    if (meaning := meaning_of(plans)) != MEANING_VERSION:
        raise SpecError(
            f"{corpus} was made with meaning version {meaning}, and this medadv has {MEANING_VERSION}: a spec now gives other labels "
            "or pixels, so it stays as it is and is neither finished nor grown. Make another corpus with --out DIR"
        )


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What changed between two settings, spelt out: `attacks.pgd-4.epsilon: 4 -> 8`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for key in sorted({*old, *new}):
            found += differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        return found
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def refuse_change(old: dict[str, Any], new: dict[str, Any], corpus: Path) -> None:
    """Raise SpecError when settings differ from those the corpus was made with."""
    if changed := differences(old, new):
        listed = "; ".join(changed[:5]) + (f" (and {len(changed) - 5} more)" if len(changed) > 5 else "")
        raise SpecError(f"{corpus} was made with other settings: {listed}. Make another corpus with --out DIR, or put the settings back")
