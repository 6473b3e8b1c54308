"""One shard from start to receipt: the seam that every scheduler calls.

load -> attack -> write -> read back -> score -> verify -> publish -> receipt. The same call gives the same shard, whoever makes it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.batches.attacking import attack_samples
from medadv.batches.judging import labels_of, outcome, planned_batches, predict
from medadv.batches.loading import Loaded, LoadedBatch, batches, unchanged
from medadv.common import files
from medadv.common.errors import IntegrityError, RunError
from medadv.common.files import sync
from medadv.common.hashing import canonical_json, hash_array, hash_file
from medadv.common.record import plain
from medadv.common.threads import helpers
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.quarantine import QuarantineRecord
from medadv.corpus.receipt import Outcome, Receipt, Repeat, SampleRecord, content_root
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.labels import Array, Label, Prediction
from medadv.datasets.reader import Reader
from medadv.plan.model import PlannedShard
from medadv.plan.recipe import Recipe
from medadv.run.commit import commit
from medadv.spec.attack import AttackSettings, in_order
from medadv.store.extents import find_extents
from medadv.store.layout import FORMAT, FORMAT_VERSION, START, ShardContent, answer_arrays, answer_at, is_move
from medadv.store.reader import adversarial_image, read_content
from medadv.store.writer import GridFile, write_content
from medadv.victims.several import against
from medadv.victims.victim import Victim

TRIES = 3
"""A shard whose inputs change while it is made is made again this often; the second time, what changed is left out."""


def carry_on() -> None:
    """Nothing asks this maker to stop."""


def make_shard(
    workspace: Workspace,
    shard: PlannedShard,
    recipe: Recipe,
    reader: Reader,
    victim: Victim,
    *,
    excluded: Collection[str] = (),
    hashes: FileHashes | None = None,
    proceed: Callable[[], None] = carry_on,
) -> Receipt:
    """Make, verify and commit one shard; returns the receipt that stands.

    Samples that cannot be read leave their place in the batch empty and stand in the receipt's `quarantined`.

    Args:
        workspace: the corpus.
        shard: what to make.
        recipe: by which attacks.
        reader: of the inputs.
        victim: the model.
        excluded: samples that kill workers, left out as if they could not be read.
        hashes: of input files, from the shards before.
        proceed: called between batches and before the commit; raises when this maker is no longer wanted.

    Raises:
        IntegrityError: what was read back is not what was written.
        RunError: input files change all the time.
        OSError: a disk failed; nothing half-written keeps a final name.
    """
    hashes = hashes or FileHashes(None)
    for _ in range(TRIES):
        receipt = _tried(workspace, shard, recipe, reader, victim, excluded, hashes, proceed)
        if receipt is not None:
            return receipt
    raise RunError(f"input files of {shard_name(shard.index)} change while they are read; every finished shard is kept, run again")


def _tried(
    workspace: Workspace,
    shard: PlannedShard,
    recipe: Recipe,
    reader: Reader,
    victim: Victim,
    excluded: Collection[str],
    hashes: FileHashes,
    proceed: Callable[[], None],
) -> Receipt | None:
    """None where a file changed that slices share: those that changed are found when they are loaded again."""
    name = shard_name(shard.index)
    temporary = files.temporary(workspace.shard(name))
    try:
        source = batches(shard, reader, victim.scored, excluded, helpers(recipe.device), hashes)
        content, loaded, quarantined = _attacked(temporary, shard, recipe, source, victim, proceed)
        if not loaded:
            return commit(workspace, name, shard.index, None, _receipt(shard, recipe, loaded, quarantined), proceed)
        records = _score(temporary, shard, recipe, content, loaded, victim)
        _verify(temporary, content)
        receipt = _receipt(
            shard,
            recipe,
            loaded,
            quarantined,
            repeat=_repeat(content, shard, recipe, loaded, victim),
            bytes=temporary.stat().st_size,
            sha256=hash_file(temporary),
            arrays=content.hashes(),
            records=records,
            extents=find_extents(temporary),
        )
        if not unchanged(loaded, reader, hashes):
            return None
        return commit(workspace, name, shard.index, temporary, receipt, proceed)
    finally:
        temporary.unlink(missing_ok=True)


def _receipt(
    shard: PlannedShard, recipe: Recipe, loaded: Sequence[Loaded], quarantined: list[QuarantineRecord], **made: Any
) -> Receipt:
    """made: what is known of the shard's file; a shard without samples has none."""
    kept = {item.planned.id for item in loaded}
    known = {"bytes": 0, "sha256": None, "arrays": {}, "records": [], **made}
    return Receipt(
        format="medadv",
        format_version=FORMAT_VERSION,
        shard=shard_name(shard.index),
        plan=recipe.plan,
        generation=recipe.generation,
        samples=len(loaded),
        # The batches as planned; an empty place stays empty.
        batches=[[s.id if s.id in kept else None for s in batch] for batch in shard.batches],
        quarantined=quarantined,
        content_root=content_root(known["arrays"], known["records"]),
        **known,
    )


def _attacked(
    temporary: Path, shard: PlannedShard, recipe: Recipe, source: Iterator[LoadedBatch], victim: Victim, proceed: Callable[[], None]
) -> tuple[ShardContent, list[Loaded], list[QuarantineRecord]]:
    """Load, attack and store batch by batch: while one batch is attacked, the next is loaded and the one before is written."""
    spatial = len(shard.shape) - 1
    device = torch.device(recipe.device)
    loaded: list[Loaded] = []
    labels: list[Label] = []
    quarantined: list[QuarantineRecord] = []
    large: dict[str, list[Array]] = defaultdict(list)
    told: dict[str, list[Array]] = defaultdict(list)
    grid = GridFile(temporary, len(shard.samples), spatial, recipe.codec, helpers(recipe.device))
    try:
        for batch in source:
            proceed()
            quarantined += batch.quarantined
            if not batch.loaded:
                continue
            truths = labels_of(batch.loaded, victim.scored, device)
            arrays = {"image": np.stack([item.sample.image for item in batch.loaded])}
            moved: dict[str, Array] = {}
            joint: dict[tuple[str, str], dict[str, Array]] = {}
            for name in in_order(recipe.attacks):
                settings = recipe.attacks[name]
                # On the mean of losses there is one perturbation for the answers of all victims, where nothing else differs.
                one = (settings.drawn_as(name), settings.model_copy(update={"victim": None}).model_dump_json())
                made = dict(joint.get(one) or attack_samples(name, settings, recipe, batch.loaded, truths, victim, moved))
                if settings.combine:
                    joint[one] = dict(made)
                moved[name] = arrays[f"attacks/{name}/perturbation"] = made.pop("perturbation")
                if START in made:
                    arrays[f"attacks/{name}/{START}"] = made.pop(START)
                for key, values in made.items():
                    told[f"attacks/{name}/{key}"].append(values)
            grid.append(arrays)
            for key, values in arrays.items():
                large[key].append(values)
            loaded += batch.loaded
            labels += truths
    finally:
        whole = grid.close()
    if not loaded:
        return ShardContent(), [], quarantined
    content = _inputs(shard, recipe, loaded, labels, victim.task)
    content.arrays |= {key: np.concatenate(parts) for key, parts in (large | told).items()}
    content.attributes |= {f"attacks/{name}": attack_attributes(settings, victim) for name, settings in recipe.attacks.items()}
    if not whole:
        # The file was laid out for samples that could not be read after all.
        temporary.unlink(missing_ok=True)
    missing = {key: values for key, values in content.arrays.items() if not (whole and key in large)}
    write_content(temporary, ShardContent(content.attributes, missing), spatial, recipe.codec)
    return content, loaded, quarantined


def _score(
    temporary: Path, shard: PlannedShard, recipe: Recipe, content: ShardContent, loaded: list[Loaded], victim: Victim
) -> list[SampleRecord]:
    """Read back, score what was read, and store the scores; adds them to `content` and returns the sample records."""
    labels = [answer_at(content.arrays, "label", index) for index in range(len(loaded))]
    # From here on only what the file gives back counts.
    stored = read_content(temporary)
    second = ShardContent()
    outcomes: dict[str, dict[str, Array]] = {}
    device, places = torch.device(recipe.device), planned_batches(loaded)
    answers: dict[str | None, list[Prediction]] = {}
    for name, settings in recipe.attacks.items():
        judge = against(victim, settings).scored
        if settings.victim not in answers:
            answers[settings.victim] = predict(judge, stored.arrays["image"], places, device)
        clean = answers[settings.victim]
        perturbation = stored.arrays[f"attacks/{name}/perturbation"]
        adversarial = predict(judge, adversarial_image(stored.arrays["image"], perturbation), places, device)
        outcomes[name] = outcome(judge, clean, adversarial, labels, perturbation, settings.goal)
        prefix = f"attacks/{name}"
        second.arrays |= {f"{prefix}/{key}": values for key, values in outcomes[name].items()}
        second.arrays |= answer_arrays(f"{prefix}/prediction_clean", [p.answer for p in clean])
        second.arrays |= answer_arrays(f"{prefix}/prediction_adversarial", [p.answer for p in adversarial])
    write_content(temporary, second, len(shard.shape) - 1, recipe.codec)
    content.arrays |= second.arrays
    return _records(loaded, content, outcomes)


def _inputs(shard: PlannedShard, recipe: Recipe, loaded: list[Loaded], labels: list[Label], task: str) -> ShardContent:
    samples = [item.sample for item in loaded]
    arrays: dict[str, Array] = {
        "sample_id": np.array([item.planned.id for item in loaded], "S"),
        "group_id": np.array([item.planned.group for item in loaded], "S32"),
        **answer_arrays("label", labels),
    }
    if all(s.affine is not None for s in samples):
        arrays["affine"] = np.stack([s.affine for s in samples if s.affine is not None])
    if any(s.region is not None for s in samples):
        full = np.ones(shard.shape[1:], np.uint8)
        arrays["region"] = np.stack([full if s.region is None else s.region.astype(np.uint8) for s in samples])
    root = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "plan": recipe.plan,
        "modality": recipe.modality,
        "task": task,
        "unit": samples[0].unit,
        "spatial_axes": samples[0].spatial_axes,
    }
    return ShardContent({"/": root}, arrays)


def attack_attributes(settings: AttackSettings, victim: Victim) -> dict[str, str | float]:
    """Attributes of an attack's group."""
    return {
        "attack": settings.attack,
        "parameters": canonical_json(settings.model_dump(mode="json")).decode(),
        "epsilon": settings.epsilon,
        "norm": "linf",
        "success_rule": canonical_json(plain(against(victim, settings).scored.success_rule(settings.goal))).decode(),
    }


def _repeat(content: ShardContent, shard: PlannedShard, recipe: Recipe, loaded: list[Loaded], victim: Victim) -> Repeat | None:
    """Attack the first batch of a plan's first shard once more: only equal bits allow the word `bitwise`."""
    if shard.index != recipe.first_shard:
        return None
    # One that is computed, where there is one: what all samples share is read.
    name, settings = next(((n, s) for n, s in recipe.attacks.items() if s.fit is None), next(iter(recipe.attacks.items())))
    batch = planned_batches(loaded)[0]
    items, labels = [loaded[i] for i in batch], [answer_at(content.arrays, "label", i) for i in batch]
    starts = {other: content.arrays[f"attacks/{other}/perturbation"][batch] for other in recipe.attacks}
    again = attack_samples(name, settings, recipe, items, labels, victim, starts)
    equal = all(np.array_equal(values, content.arrays[f"attacks/{name}/{key}"][batch]) for key, values in again.items())
    return Repeat(attack=name, samples=len(items), equal=bool(equal))


def _records(loaded: Sequence[Loaded], content: ShardContent, outcomes: dict[str, dict[str, Array]]) -> list[SampleRecord]:
    """One record a sample: where it stood in its batch, what is known of its input, results, and hashes of its large arrays."""
    on_grid = [k for k in content.arrays if k in ("image", "region", "label") or is_move(k)]
    return [
        SampleRecord(
            id=item.planned.id,
            place=item.place,
            facts=item.sample.facts,
            attacks={name: Outcome(**{key: values[index].item() for key, values in result.items()}) for name, result in outcomes.items()},
            hashes={key: hash_array(content.arrays[key][index]) for key in on_grid},
        )
        for index, item in enumerate(loaded)
    ]


def _verify(path: Path, content: ShardContent) -> None:
    """Read the whole file back and hold it against what was meant."""
    sync(path)
    back = read_content(path)
    if sorted(back.arrays) != sorted(content.arrays):
        raise IntegrityError(f"{path.name}: arrays went missing on the way to the disk")
    for name, array in content.arrays.items():
        if back.arrays[name].dtype != array.dtype or not np.array_equal(back.arrays[name], array):
            raise IntegrityError(f"{path.name}: {name} read back differs from what was written; check the disk")
