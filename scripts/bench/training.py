#!/usr/bin/env python3
"""Write the tables of TRAINING.md from hardenings: several seeds of one name are averaged resample by resample.

    scripts/bench/training.py keep hardenings/fundus-0 hardenings/fundus-1     their figures, as JSON, to scripts/bench/training/
    scripts/bench/training.py                                                 the tables, from all figures that are kept

`keep` takes hardenings that are not finished, too: once an arm has final figures, they are in the tables.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medadv.common.errors import SpecError
from medadv.common.files import writable_folder
from medadv.common.record import Closed, parse
from medadv.hardening.folder import Home, measurement
from medadv.hardening.measuring import Estimate, Measurement
from medadv.hardening.record import Hardening
from medadv.hardening.write import total_cost
from medadv.report.record import Figure
from medadv.spec.hardening import HardeningSettings
from medadv.spec.modality import UNITS, amount

HERE = Path(__file__).resolve().parent
KEPT, PAGE = HERE / "training", HERE / "TRAINING.md"
ARMS = ("victim", "control", "chosen")
DIGITS = 4
NAMES = {"auc": "AUC", "accuracy": "accuracy", "dice": "mean Dice", "ap50": "AP50"}
IN_MEMORY = "-memory"
"""What ends the name of a hardening with attacks in memory, against which those without the ending, and with the next one, are held."""
ELSEWHERE = "-elsewhere"
"""What ends the name of one whose generation was chosen anew, on images that its victim never saw."""


class Kept(Closed):
    """One hardening's figures. clean and robust: arm -> the headline metric with its resamples; robust by epsilon."""

    record: Hardening
    clean: dict[str, Estimate]
    robust: dict[str, dict[str, Estimate]]


def keep(folder: Path) -> Path:
    """Write down what a hardening came to."""
    home = Home(folder)
    record = parse(Hardening, home.record.read_bytes())
    found = {arm: parse(Measurement, path.read_bytes()) for arm in ARMS if (path := measurement(home.final(arm))).exists()}
    epsilons = sorted({at.epsilon for each in found.values() for at in each.robust})
    kept = Kept(
        record=record.model_copy(update={"settings": without_places(record.settings)}),
        clean={arm: _short(each.headline) for arm, each in found.items()},
        robust={f"{epsilon:g}": {arm: _short(each.under(epsilon)) for arm, each in found.items()} for epsilon in epsilons},
    )
    path = KEPT / f"{record.name}-{record.settings.seed}.json"
    path.write_text(kept.model_dump_json() + "\n")
    return path


def without_places(settings: HardeningSettings) -> HardeningSettings:
    """The settings with the names alone of programs, files and folders that lie somewhere on the machine: figures are for all."""
    bare: dict[str, Any] = {}
    if settings.command is not None:
        bare["command"] = [Path(part).name if Path(part).is_absolute() else part for part in settings.command]
    if settings.bundle is not None:
        bare["bundle"] = settings.bundle.model_copy(update={"path": Path(settings.bundle.path).name})
    return settings.model_copy(update=bare)


def _short(estimate: Estimate) -> Estimate:
    resamples = [None if value is None else round(value, DIGITS) for value in estimate.resamples]
    return Estimate(value=estimate.value, resamples=resamples)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Over seeds, resample by resample: all answered the same images.  ValueError where they did not."""
    if len({len(each.resamples) for each in estimates}) > 1:
        raise ValueError("seeds of one name have other final images")
    values = np.array([each.resamples for each in estimates], np.float64).mean(0)
    value = float(np.mean([np.nan if each.value is None else each.value for each in estimates]))
    return Estimate(value=None if np.isnan(value) else value, resamples=[None if np.isnan(each) else float(each) for each in values])


def tables(kept: Sequence[Kept]) -> str:
    """All tables, a name each.  ValueError where hardenings that stand together were asked other final images."""
    by_name: dict[str, list[Kept]] = defaultdict(list)
    for each in kept:
        by_name[each.record.name].append(each)
    finished = {name: [each for each in seeds if each.record.final is not None] for name, seeds in sorted(by_name.items())}
    parts = []
    for name, seeds in finished.items():
        if seeds:
            memory = finished.get(f"{name.removesuffix(ELSEWHERE)}{IN_MEMORY}", [])
            refuse_other_images(name, [*seeds, *memory])
            parts.append(_table(name, seeds))
            if both := of_equal_seeds(seeds, memory):
                parts.append(_beside(*both))
    return "\n\n".join(parts) or "None yet."


def refuse_other_images(what: str, kept: Sequence[Kept]) -> None:
    """Hold the final images of hardenings against each other: as many resamples alone do not make them the same.  ValueError if not."""
    finals = [each.record.final for each in kept]
    found = {(final.samples, final.groups, final.left_out) for final in finals if final is not None}
    if len(found) > 1:
        told = "; ".join(f"{samples} of {groups} groups, {left_out} left out" for samples, groups, left_out in sorted(found))
        raise ValueError(f"{what}: hardenings that are averaged or compared have other final images ({told})")


def _table(name: str, seeds: Sequence[Kept]) -> str:
    first = seeds[0].record
    final, unit, metric = first.final, UNITS[first.unit], NAMES[first.metric]
    assert final is not None
    rows = [("clean", {arm: mean([seed.clean[arm] for seed in seeds]) for arm in ARMS})]
    for epsilon in seeds[0].robust:
        rows.append((amount(float(epsilon), unit), {arm: mean([seed.robust[epsilon][arm] for seed in seeds]) for arm in ARMS}))
    averaged = _counted(len(seeds), "seed") + (", means over seeds" if len(seeds) > 1 else "")
    lines = [
        f"**{name}**: {metric} of {final.samples} final images of {final.groups} groups; {averaged}.",
        "",
        f"| {metric} | victim | control | hardened | hardened less control | ignores the image |",
        "|---|---|---|---|---|---|",
    ]
    ignoring = "n/a" if final.ignoring_image is None else f"{final.ignoring_image:.3f}"
    for what, arms in rows:
        cells = [with_interval(arms[arm].figure) for arm in ARMS]
        lines.append(f"| {what} | {' | '.join(cells)} | {with_interval(arms['chosen'].less(arms['control']), signed=True)} | {ignoring} |")
    lines += ["", *(_line(seed.record) for seed in sorted(seeds, key=lambda seed: seed.record.settings.seed))]
    return "\n".join(lines)


def of_equal_seeds(renewed: Sequence[Kept], memory: Sequence[Kept]) -> tuple[list[Kept], list[Kept]] | None:
    """What both arms have finished: a seed of one alone has no other to be held against."""
    first, second = ({each.record.settings.seed: each for each in seeds} for seeds in (renewed, memory))
    common = sorted(first.keys() & second.keys())
    return ([first[seed] for seed in common], [second[seed] for seed in common]) if common else None


def _beside(renewed: Sequence[Kept], memory: Sequence[Kept]) -> str:
    """Renewed corpora against attacks in memory: what both are worth, and the one's gain over a control as a share of the other's.

    Over its own, which went as many epochs as the generation that was chosen, and over that of attacks in memory, which went all epochs:
    how far clean training alone comes differs from epoch to epoch, and says nothing of either arm.
    """
    lines, unit = [f"Less attacks in memory, {_counted(len(renewed), 'seed')}:", ""], UNITS[renewed[0].record.unit]
    for epsilon in renewed[0].robust:
        mine, theirs = ({arm: mean([each.robust[epsilon][arm] for each in seeds]) for arm in ARMS} for seeds in (renewed, memory))
        difference = with_interval(mine["chosen"].less(theirs["chosen"]), signed=True)
        own, one = (with_interval(gain_ratio({**mine, "control": control}, theirs)) for control in (mine["control"], theirs["control"]))
        lines.append(
            f"- {amount(float(epsilon), unit)}: {difference}. The gain over one control, of all epochs, is {one} times theirs; "
            f"each over its own, {own}."
        )
    return "\n".join(lines)


def gain_ratio(mine: Mapping[str, Estimate], theirs: Mapping[str, Estimate]) -> Figure:
    """What one gains over its control, by what the other gains over its own; without a value where the other gains nothing."""
    gains = [np.array([arms[arm].resamples for arm in ("chosen", "control")], np.float64) for arms in (mine, theirs)]
    first, second = (chosen - control for chosen, control in gains)
    values = [arms["chosen"].less(arms["control"]).value for arms in (mine, theirs)]
    if values[0] is None or values[1] is None or values[1] <= 0 or (second <= 0).any():
        return Figure(value=None, low=None, high=None)
    return Estimate(value=values[0] / values[1], resamples=list(first / second)).figure


def _line(record: Hardening) -> str:
    """What one seed chose, and what it cost."""
    if record.settings.command is not None:
        return f"- Seed {record.settings.seed}: on {record.training_samples} images, by a program of its own (`hardening.command`)."
    cost, settings = total_cost(record), record.settings
    assert cost is not None
    assert record.choice is not None
    passes = (part.backward / record.training_samples for part in (cost.attacks, cost.training))
    attack, training = (f"{each:.0f}" for each in passes)
    trained = f"and {training} of training for each image" if settings.bundle is None else "for each image, trained on by a MONAI bundle"
    worse = [str(each.number) for each in record.generations if each.worse]
    told = f" Worse than the one before beyond the interval: {', '.join(worse)}." if worse else ""
    generations = f"generation {record.choice.generation} of {settings.generations}, of {_counted(settings.epochs, 'epoch')} each"
    images = f"on {record.training_samples} images"
    return f"- Seed {settings.seed}: {generations}, {images}; {attack} passes of attacks {trained}.{told}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def with_interval(figure: Figure, *, signed: bool = False) -> str:
    """With its interval."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "n/a"
    form = "{:+.3f}" if signed else "{:.3f}"
    return f"{form.format(figure.value)} [{form.format(figure.low)}, {form.format(figure.high)}]"


def filled(text: str, content: str) -> str:
    """The document with its tables made anew."""
    marks = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)
    return marks.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def main() -> None:
    """Keep figures, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keep", nargs="*", metavar="keep FOLDER", help="folders of hardenings")
    arguments = parser.parse_args()
    word, *folders = arguments.keep or [""]
    if word not in ("", "keep"):
        parser.error(f"{word}: write keep before the folders of hardenings")
    try:
        writable_folder(KEPT)
    except SpecError as error:
        parser.error(str(error))
    for folder in folders:
        print(keep(Path(folder)))
    PAGE.write_text(filled(PAGE.read_text(), tables([parse(Kept, path.read_bytes()) for path in sorted(KEPT.glob("*.json"))])))


if __name__ == "__main__":
    main()
