"""Which figures follow from shards and receipts? Metrics, success and repetition, for who writes them down and for who doubts them.

Nothing here loads a network library: a corpus is checked on machines that could never run its victim.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from medadv.corpus.manifest import Determinism, Metrics, StartFacts
from medadv.corpus.receipt import Receipt
from medadv.datasets.labels import Array, Label
from medadv.scoring.attackable import answer_to_lose, dice_to_lose
from medadv.scoring.metrics import corpus_metrics, headline
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import in_words
from medadv.spec.start import PlannedStart
from medadv.store.layout import ATTACKABLE, WARM, answer_at


def attackable_rows(arrays: dict[str, Array], attack: str, task: str, threshold: float) -> Array:
    """Which samples of a shard could be attacked, (n,) bool.

    arrays: the shard's small ones.  threshold: score from which a detection counts.
    """
    prefix = f"attacks/{attack}"
    scores = arrays[f"{prefix}/score_clean"]
    if (stored := arrays.get(f"{prefix}/{ATTACKABLE}")) is not None:
        return np.asarray(stored == 1)
    if task == "segmentation":
        return dice_to_lose(scores)
    answers = (_answers(arrays, prefix, "clean", index) for index in range(len(scores)))
    return np.array([answer_to_lose(clean, truth, threshold) for truth, clean in answers], bool)


def attacked(arrays: dict[str, Array], attack: str, task: str, threshold: float) -> tuple[int, int]:
    """How many samples of a shard could be attacked, and on how many of these the attack succeeds; arguments as above."""
    able = attackable_rows(arrays, attack, task, threshold)
    return int(able.sum()), int(arrays[f"attacks/{attack}/success"][able].sum())


def measure(
    shards: Sequence[dict[str, Array]], task: str, attacks: Mapping[str, AttackSettings], limits: Mapping[str, float]
) -> dict[str, Metrics]:
    """Metrics per attack over the small arrays of all shards; limits: by attack, the threshold as above."""
    found: dict[str, Metrics] = {}
    for attack, settings in attacks.items():
        pairs: dict[str, list[tuple[Label, Label, float]]] = {"clean": [], "adversarial": []}
        able = successes = 0
        for arrays in shards:
            prefix = f"attacks/{attack}"
            more = attacked(arrays, attack, task, limits[attack])
            able, successes = able + more[0], successes + more[1]
            for index in range(len(arrays["sample_id"])):
                for which, rows in pairs.items():
                    score = float(arrays[f"{prefix}/score_{which}"][index])
                    # Segmentation needs no masks here: the scores are the Dice values.
                    truth, answer = (0, 0) if task == "segmentation" else _answers(arrays, prefix, which, index)
                    rows.append((truth, answer, score))  # type: ignore[arg-type]
        clean, adversarial = (corpus_metrics(task, pairs[which]) for which in ("clean", "adversarial"))
        name = headline(task, clean)
        found[attack] = Metrics(
            metric=name,
            clean=clean.get(name),
            adversarial=adversarial.get(name),
            all={key: {"clean": clean[key], "adversarial": adversarial[key]} for key in clean},
            success=successes / able if able else None,
            attackable=able,
            **({} if settings.goal == "untruth" else {"goal": in_words(settings.goal, task)}),
        )
    return found


def _answers(arrays: dict[str, Array], prefix: str, which: str, index: int) -> tuple[Label, Label]:
    return answer_at(arrays, "label", index), answer_at(arrays, f"{prefix}/prediction_{which}", index)


def count_starts(shards: Sequence[dict[str, Array]], attacks: Mapping[str, AttackSettings]) -> dict[str, StartFacts]:
    """By attack that starts from another corpus, what the small arrays of all shards say of where samples began."""
    found: dict[str, StartFacts] = {}
    for name, settings in attacks.items():
        if isinstance(start := settings.start, PlannedStart):
            warm = sum(int((arrays[f"attacks/{name}/{WARM}"] == 1).sum()) for arrays in shards)
            count = sum(len(arrays["sample_id"]) for arrays in shards)
            found[name] = StartFacts(content_root=start.content_root, attack=start.attack, warm=warm, cold=count - warm)
    return found


def determinism_of(receipts: Iterable[Receipt]) -> Determinism:
    """From the first shard of each plan, of which a batch is run twice: `bitwise` only where every such batch came out equal."""
    repeats = [receipt.repeat for receipt in receipts if receipt.repeat is not None]
    same = bool(repeats) and all(repeat.equal for repeat in repeats)
    return Determinism(level="bitwise" if same else "tolerance", repeated=repeats, holds_for="the same hardware and package versions")
