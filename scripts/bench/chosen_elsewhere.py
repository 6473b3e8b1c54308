#!/usr/bin/env python3
"""Which generation would images choose that the victim never saw, and what is it worth? Hardenings chosen anew, without training anew.

    scripts/bench/chosen_elsewhere.py --path chosen.json --split validation hardenings/polyps-0 hardenings/polyps-1 ...

Folders that hardenings.py left, and their data with one split more (first_groups.py). All generations of each are attacked anew on that
split, one is chosen as `medadv harden` with `hardening.validation` chooses, and attacked on the final images. What comes out lies beside
it as NAME-elsewhere-SEED, the figures in scripts/bench/training/. Weights and training are those that are there.
"""

import argparse
import os
from pathlib import Path

from medadv.common.files import write_file
from medadv.common.progress import SILENT
from medadv.common.record import parse
from medadv.common.stop import Stop
from medadv.hardening.folder import CARD, WEIGHTS, Arm, Home, measurement
from medadv.hardening.fresh import control_validated, validated
from medadv.hardening.generation import compared_of, figures_of
from medadv.hardening.harden import chosen, looked_at
from medadv.hardening.record import GenerationRecord, Hardening
from medadv.hardening.specs import settings_of
from medadv.hardening.work import Work, working
from medadv.hardening.write import write_hardening
from medadv.prepare.request import Options, asked
from training import ELSEWHERE, keep

ARMS: tuple[Arm, ...] = ("hardened", "control")


def chosen_anew(folder: Path, path: Path, split: str) -> Path:
    """The hardening beside it whose generations another split chose."""
    there, spec_path = Home(folder), folder.with_suffix(".yaml")
    before = parse(Hardening, there.record.read_bytes())
    name = f"{before.name}{ELSEWHERE}"
    here = Home(folder.with_name(f"{name}-{before.settings.seed}"))
    changes = [f"name={name}", f"data.path={path}", f"hardening.validation={split}"]
    options = Options(out=here.root, overrides=changes)
    spec, _ = asked(spec_path, options)
    with working(spec_path, spec, settings_of(spec), options, SILENT, Stop()) as work:
        link(there, here, len(before.generations))
        record = begun(work, before)
        for each in before.generations:
            record = record.model_copy(update={"generations": [*record.generations, measured_anew(work, each)]})
        record = chosen(work, record)
        assert before.choice is not None
        assert record.choice is not None
        # What was measured on final images stands, wherever the weights are the same.
        same = ["victim"] + (["control", "chosen"] if record.choice.generation == before.choice.generation else [])
        for arm in same:
            here.final(arm).parent.mkdir(parents=True, exist_ok=True)
            write_file(measurement(here.final(arm)), measurement(there.final(arm)).read_bytes())
        record = looked_at(work, record)
        write_hardening(here, record)
    print(f"{here.root.name}: generation {record.choice.generation}, {before.choice.generation} before. {record.choice.why}", flush=True)
    return here.root


def link(there: Home, here: Home, generations: int) -> None:
    """Lay weights and cards of all generations where a hardening has them, and the newest corpus, which says what was trained on."""
    named = [there.generation(number, arm) / name for number in range(1, generations + 1) for arm in ARMS for name in (WEIGHTS, CARD)]
    for path in [*named, there.corpus(generations)]:
        place = here.root / path.relative_to(there.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(os.path.relpath(path, place.parent))


def begun(work: Work, before: Hardening) -> Hardening:
    """The record of the earlier one, with other validation images and without generations."""
    victim = validated(work, 0, work.made(len(before.generations)))
    asked_now = {"validation_samples": victim.samples, "validation_groups": victim.groups, "ignoring_image": victim.ignoring_image}
    empty = {"generations": [], "control": None, "choice": None, "final": None}
    return before.model_copy(
        update={"name": work.spec.name, "settings": work.settings, "victim": compared_of(victim), **asked_now, **empty}
    )


def measured_anew(work: Work, each: GenerationRecord) -> GenerationRecord:
    """A generation of the earlier one, with what it is worth on other validation images."""
    newest = work.made(work.settings.generations)
    after, undefended = validated(work, each.number, newest), control_validated(work, each.number, newest)
    return each.model_copy(update=dict(figures_of(after, undefended, validated(work, each.number - 1, newest))))


def main() -> None:
    """One hardening after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--path", type=Path, required=True, help="the data, as data.path names them, with the split")
    parser.add_argument("--split", required=True, help="that chooses")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        keep(chosen_anew(folder.resolve(), arguments.path.resolve(), arguments.split))


if __name__ == "__main__":
    main()
