"""Signs that an attack is as strong as it says, measured on a few samples. They warn; they never fail a run.

After Carlini et al., On Evaluating Adversarial Robustness (arXiv 1902.06705), section 5: a larger ball and more steps may not do worse, an
unbounded attack succeeds, gradients beat noise and white box beats transfer, gradients are not zero.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from medadv.batches.batch import Batch
from medadv.batches.bench import AttackBench
from medadv.corpus.manifest import Against, Rung, SanityReport, WorstCase
from medadv.datasets.labels import Array
from medadv.evidence.weak_signs import ladder_name, warnings_of
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import Goal
from medadv.victims.victim import TaskModel, Victim

MAX_SAMPLES = 32
MAX_VALUES = 1 << 24
"""Voxels times channels in all: whole volumes beyond it would cost more than the corpus itself."""
EPSILON_LADDER = (0.0, 0.5, 1.0, 2.0)
STEPS_LADDER = (0.2, 0.5, 1.0, 2.0)
HUGE_SHARE = 0.25
"""An epsilon of this share of the whole range leaves little of an image."""


def sanity(
    victim: Victim,
    batch: Batch,
    attacks: Mapping[str, AttackSettings],
    *,
    seeds: Sequence[int],
    batch_size: int = 8,
    limit: int = MAX_SAMPLES,
    second: TaskModel | None = None,
    made: Mapping[str, Array] | None = None,
    starts: Mapping[str, Array] | None = None,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> SanityReport:
    """Check the first attack of a run, and the worst over all of them, on at most `MAX_SAMPLES` samples.

    Args:
        victim: under attack.
        batch: samples on the victim's device. The first `limit` are used of those on which the victim is right, or which are not at the
            first attack's goal: on the others an attack has nothing to do, and even the strongest would look weak.
        attacks: name -> settings; the ladders climb with the first.
        seeds: one per sample.
        batch_size: samples per pass.
        limit: at most this many samples.
        second: another model of the same task, for transfer.
        made: name -> (n, C, *spatial) perturbations that exist already, so that those attacks are not run again.
        starts: name -> (n, C, *spatial), where an attack began that starts from another corpus; the ladders begin there too.
        tick: called before each attack with how many are done and how many there are; may raise to stop.

    Returns:
        What was found on which samples; or `samples` 0 and the reason in `warnings`.
    """
    budget = MAX_VALUES // max(1, math.prod(batch.images.shape[1:]))
    if not budget or not attacks:
        return _left_out("a single sample is larger than their budget")
    # What all samples share has no ladders: another epsilon would have to be fitted again.
    single = {key: chosen for key, chosen in attacks.items() if chosen.fit is None}
    name, settings = next(iter((single or attacks).items()))
    rows = _vulnerable(victim.scored, batch.part(slice(budget)), batch_size, settings.goal)[: min(limit, MAX_SAMPLES)]
    if not rows:
        right = settings.goal == "untruth"
        return _left_out("the victim is right on none of the samples looked at" if right else "no sample looked at is away from the goal")
    made = {name: deltas[rows] for name, deltas in (made or {}).items()}
    begun = (starts or {}).get(name)
    bench = AttackBench(victim, batch.chosen(rows), [seeds[row] for row in rows], batch_size, None if begun is None else begun[rows])
    stored = list(attacks)
    if not single:
        return _shared(bench, {key: attacks[key] for key in made}, made, second)
    if settings.members:
        name, settings = ladder_name(name, settings), settings.members[0]
        attacks = {**attacks, name: settings}
    rungs = {k: settings.epsilon * k for k in EPSILON_LADDER}
    steps = sorted({max(1, round(settings.steps * k)) for k in STEPS_LADDER}) if settings.attack != "fgsm" else [1]
    # The rung of the attack itself and the step count of the attack itself are not run a second time.
    bench.expect(len(attacks) + len(rungs) + sum(n != settings.steps for n in steps), tick)
    found = {key: bench.known(made[key]) if key in made else bench.attack(chosen.at(chosen.epsilon)) for key, chosen in attacks.items()}
    white = bench.success(found[name], settings.goal)
    # Epsilon 0 allows nothing in any step, so one step shows as much as all.
    identity = bench.attack(settings.at(0.0, steps=1))
    ready = {0.0: identity, 1.0: found[name]}
    epsilon_ladder, steps_ladder = [], []
    for k, epsilon in rungs.items():
        delta = ready[k] if k in ready else bench.attack(settings.at(epsilon))
        epsilon_ladder.append(Rung(epsilon=epsilon, success=bench.success(delta, settings.goal)))
    for n in steps:
        success = white if n == settings.steps else bench.success(bench.attack(settings.at(settings.epsilon, steps=n)), settings.goal)
        steps_ladder.append(Rung(steps=n, success=success))
    huge = float(round(HUGE_SHARE * (batch.lattice.high - batch.lattice.low)))
    report = SanityReport(
        samples=len(rows),
        sample_ids=[batch.ids[row] for row in rows],
        warnings=[],
        attack=name,
        epsilon_ladder=epsilon_ladder,
        steps_ladder=steps_ladder,
        epsilon_zero_is_identity=not identity.any(),
        huge_epsilon=Rung(epsilon=huge, success=bench.success(bench.attack(settings.at(huge)), settings.goal)),
        noise=Against(success=bench.success(bench.noise(settings.epsilon), settings.goal), white_box=white),
        transfer=None if second is None else Against(success=bench.success(found[name], settings.goal, second), white_box=white),
        zero_gradients=bench.zero_gradients(settings),
        **({} if (clamped := bench.clamped()) is None else {"clamped": clamped}),
        worst_case=WorstCase(success=bench.worst([(found[key], attacks[key].goal) for key in stored]), attacks=stored),
    )
    return report.model_copy(update={"warnings": warnings_of(report)})


def _shared(bench: AttackBench, attacks: Mapping[str, AttackSettings], made: Mapping[str, Array], second: TaskModel | None) -> SanityReport:
    """Where there is nothing but universal perturbations: the first beside noise and transfer."""
    if not attacks:
        return _left_out("universal perturbations are looked at as they are stored, and none is")
    name, settings = next(iter(attacks.items()))
    found = {key: bench.known(made[key]) for key in attacks}
    white = bench.success(found[name], settings.goal)
    report = SanityReport(
        samples=len(bench.batch),
        sample_ids=list(bench.batch.ids),
        warnings=[],
        attack=name,
        noise=Against(success=bench.success(bench.noise(settings.epsilon), settings.goal), white_box=white),
        transfer=None if second is None else Against(success=bench.success(found[name], settings.goal, second), white_box=white),
        **({} if (clamped := bench.clamped()) is None else {"clamped": clamped}),
        worst_case=WorstCase(success=bench.worst([(delta, attacks[key].goal) for key, delta in found.items()]), attacks=list(found)),
    )
    return report.model_copy(update={"warnings": warnings_of(report)})


def _left_out(why: str) -> SanityReport:
    return SanityReport(samples=0, sample_ids=[], warnings=[f"sanity checks left out: {why}"])


def _vulnerable(judge: TaskModel, batch: Batch, batch_size: int, goal: Goal) -> list[int]:
    """Rows whose clean answer an attack of that goal could change for it."""
    answers = [answer for part in batch.cut(batch_size) for answer in judge.predict(part.images)]
    return [row for row, pair in enumerate(zip(answers, batch.labels, strict=True)) if judge.vulnerable(*pair, goal)]
