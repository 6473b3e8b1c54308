"""The plan on disk: written once, read by everything after."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainSerializer

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.files import publish, temporary
from medadv.common.hashing import canonical_json
from medadv.common.record import Closed, RecordError, parse, plain
from medadv.plan.meaning import MEANING_VERSION
from medadv.plan.model import PlannedShard, plan_hash
from medadv.plan.plan_settings import PlanSettings, TuningRecord
from medadv.spec.run_spec import RunSpec


def whole(spec: RunSpec) -> Any:
    """A run spec as JSON-able values with every key that a run reads, so that specs compare whatever their authors left out."""
    return spec.model_dump(mode="json", by_alias=True, exclude={"evaluation", "hardening"})


class PlanHead(Closed):
    """`plan.json`: head of a generation's plan; the shards stay on disk, one line each."""

    generation: int
    settings: PlanSettings
    hash: str
    first_shard: int = Field(description="index of the first shard of this generation")
    shards: int
    samples: int
    spec: Annotated[RunSpec, PlainSerializer(whole)] = Field(description="the run spec as parsed: private, since it names paths")
    base: str = Field(description="folder of the spec: private")
    root: str = Field(description="data root: private")
    replaces: tuple[int, ...] = Field((), description="shards of earlier generations that it stands for, since a patient was forgotten")
    tuning: tuple[TuningRecord, ...] = Field(
        (), description="what the choice of a profile rested on; times differ from run to run, so the hash leaves them out"
    )


class FrozenPlan(PlanHead):
    """A head that was read, and where its shards are."""

    folder: Path = Field(exclude=True)

    def lines(self) -> Iterator[PlannedShard]:
        """The shards in order. IntegrityError where a line is no shard."""
        with (self.folder / "shards.jsonl").open("rb") as stream:
            series: list[tuple[str, ...]] = []
            for number, line in enumerate(stream, start=1):
                try:
                    shard = PlannedShard.of_line(line, series)
                except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                    raise IntegrityError(f"{self.folder / 'shards.jsonl'}: line {number} is damaged") from None
                series = shard.series
                yield shard


def freeze(
    folder: Path,
    generation: int,
    settings: PlanSettings,
    shards: list[PlannedShard],
    spec: RunSpec,
    base: Path,
    root: Path,
    *,
    first_shard: int = 0,
    replaces: Sequence[int] = (),
    tuning: Sequence[TuningRecord] = (),
) -> FrozenPlan:
    """Write a plan that no run has written before; its head comes last and marks it as whole."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = temporary(folder / "shards.jsonl")
    with lines.open("xb") as stream:
        for shard in shards:
            stream.write(shard.line() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    publish(lines, folder / "shards.jsonl")
    head = PlanHead(
        generation=generation,
        settings=settings,
        hash=plan_hash(settings, [s.digest for s in shards]),
        first_shard=first_shard,
        shards=len(shards),
        samples=sum(len(s.samples) for s in shards),
        spec=spec,
        base=str(base),
        root=str(root),
        replaces=tuple(sorted(replaces)),
        tuning=tuple(tuning),
    )
    whole = temporary(folder / "plan.json")
    with whole.open("xb") as stream:
        stream.write(head_bytes(head))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(whole, folder / "plan.json")  # unlike rename, fails where a plan stands already
    except FileExistsError:
        raise IntegrityError(f"{folder / 'plan.json'} was written by another run meanwhile") from None
    finally:
        whole.unlink(missing_ok=True)
    return thaw(folder)


def head_bytes(head: PlanHead) -> bytes:
    """The content of plan.json."""
    return canonical_json(plain(head))


def thaw(folder: Path) -> FrozenPlan:
    """Read a frozen plan's head. IntegrityError where it cannot be read."""
    path = folder / "plan.json"
    try:
        head = parse(PlanHead, path.read_bytes())
    except (OSError, RecordError) as error:
        reason = error if isinstance(error, RecordError) else type(error).__name__
        raise IntegrityError(f"{path} cannot be read ({reason})") from None
    return FrozenPlan(folder=folder, **dict(head))


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
    return plans[0].settings.meaning if plans else MEANING_VERSION


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


def refuse_change(old: Any, new: Any, corpus: Path) -> None:
    """Raise SpecError when settings, as JSON-able values, differ from those the corpus was made with."""
    if changed := differences(old, new):
        listed = "; ".join(changed[:5]) + (f" (and {len(changed) - 5} more)" if len(changed) > 5 else "")
        raise SpecError(f"{corpus} was made with other settings: {listed}. Make another corpus with --out DIR, or put the settings back")
