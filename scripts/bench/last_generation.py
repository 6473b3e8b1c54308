#!/usr/bin/env python3
"""What did the choice cost? The last generation of hardenings on their final images, beside the one that was chosen.

    scripts/bench/last_generation.py hardenings/polyps-0 hardenings/polyps-1 ...

Folders that hardenings.py left, seeds of one name; attacks and images are those of their final figures. The mean over the seeds comes last.
Nothing is chosen by it: the figures of a hardening stay those of the generation that validation chose.
"""

import argparse
from pathlib import Path

from medadv.common.progress import SILENT
from medadv.common.record import parse
from medadv.common.stop import Stop
from medadv.hardening.folder import Home, measurement
from medadv.hardening.fresh import attacked, weights_of
from medadv.hardening.measuring import Estimate, Measurement
from medadv.hardening.record import Hardening
from medadv.hardening.specs import final_spec, settings_of
from medadv.hardening.work import working
from medadv.prepare.request import Options, asked
from training import mean, with_interval


def models(folder: Path) -> dict[str, Measurement]:
    """Control, chosen and last generation of a hardening on its final images."""
    spec_path, options = folder.with_suffix(".yaml"), Options(out=folder)
    spec, _ = asked(spec_path, options)
    home = Home(folder)
    last = len(parse(Hardening, home.record.read_bytes()).generations)
    found = {name: parse(Measurement, measurement(home.final(name)).read_bytes()) for name in ("control", "chosen")}
    with working(spec_path, spec, settings_of(spec, trust_code=False), options, SILENT, Stop()) as work:
        weights = weights_of(work, last)
        return found | {"last": attacked(work, home.final("last"), final_spec(spec, "last", weights), work.made(last), "final")}


def main() -> None:
    """A line a model, clean and under attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    folders = [folder.resolve() for folder in parser.parse_args().folders]
    seeds: list[dict[str, dict[str, Estimate]]] = []
    for folder in folders:
        found = models(folder)
        seeds.append({name: {"clean": each.headline, "attacked": each.under()} for name, each in found.items()})
        show(folder.name, seeds[-1])
    show("mean", {name: {what: mean([seed[name][what] for seed in seeds]) for what in seeds[0][name]} for name in seeds[0]})


def show(title: str, arms: dict[str, dict[str, Estimate]]) -> None:
    """One hardening, or the mean of several."""
    for name, estimates in arms.items():
        figures = ", ".join(f"{what} {with_interval(estimate.figure)}" for what, estimate in estimates.items())
        print(f"{title}: {name}: {figures}", flush=True)


if __name__ == "__main__":
    main()
