"""How does a MONAI bundle train a generation? By its own run id, with other data, reader, weights, epochs and folders.

The bundle's configuration is read as data here, and carried out by a process of its own (`bundle_process`). Nothing under the
bundle changes: it is hashed before and after.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle.config_parser import ConfigParser

from medadv.common.errors import IntegrityError, SpecError
from medadv.common.files import write_file
from medadv.common.hashing import hash_file, hash_value
from medadv.common.record import Json
from medadv.corpus.opening import open_corpus
from medadv.hardening.bundle_process import Job
from medadv.hardening.command import LOG, place_of, run_program, start_of, take
from medadv.hardening.folder import VALIDATION, Arm
from medadv.hardening.work import Made, Work
from medadv.spec.hardening import BundleSettings
from medadv.training.monai_reader import datalist

READER = "$__import__('medadv').CorpusReader"
RESAMPLERS = ("Spacing", "Resize", "Zoom", "Resample", "ResampleToMatch", "SpatialResample")
"""What would move the stored grid again, which the victim's own preprocessing has made; as they are, and as dictionary transforms."""
RUN_IDS = ("run", "training")
Config = Mapping[str, Json]
EPOCHS = ("epochs", "train#trainer#max_epochs")


def train_by_bundle(work: Work, arm: Arm, number: int, newest: Made) -> None:
    """Have the bundle train one generation of an arm.

    Raises SpecError where its configuration has no such ids or would resample, RunError where it fails, IntegrityError where it wrote into
    its own folder.
    """
    settings = work.settings.bundle
    assert settings is not None
    root = (work.base / settings.path).resolve()
    before = hash_folder(root)
    folder, made = place_of(work, arm, number)
    written = work.home.private / "bundle" / arm
    written.mkdir(parents=True, exist_ok=True)
    file = configuration_of(root, settings.configuration)
    kinds = ["adversarial"] if work.settings.share == 1 else ["image", "adversarial"]
    items = items_of(newest.folder, settings, ["image"] * len(kinds) if arm == "control" else kinds)
    checked = items_of(work.home.generation(number - 1) / VALIDATION, settings, ["image", "adversarial"])
    lists = [_listed(written / f"{name}.json", each) for name, each in (("training", items), ("validation", checked))]
    changed = changes(read_configuration(file), settings, lists[0], lists[1], work.settings.epochs, str(written))
    job = Job(
        bundle=str(root),
        configuration=str(file),
        run=changed.run,
        network=settings.network,
        overrides=changed.overrides,
        weights=str(start_of(work, arm, number, newest)),
        out=str(made),
        seed=work.settings.seed + number,
        threads=work.settings.threads or work.spec.execution.threads,
    )
    path = written / "job.json"
    write_file(path, job.model_dump_json().encode(), mode=0o600)
    work.progress(f"training, {arm}", 0, 1, f"generation {number}, by {root.name}")
    run_program(work, [sys.executable, "-m", "medadv.hardening.bundle_process", str(path)], folder / LOG, written)
    if hash_folder(root) != before:
        raise IntegrityError(f"{root}: training changed the bundle: name the folders that it writes to in hardening.bundle.folders")
    take(work, made, newest)


@dataclass(frozen=True)
class Changed:
    """What of a configuration is carried out, and what is put in its place, by id."""

    run: str
    overrides: dict[str, str | int]


def changes(
    config: Config, settings: BundleSettings, items: str, checked: str, epochs: int, written: str
) -> Changed:
    """Run id and overrides of a configuration.  written: folder that it writes to.  SpecError where it does not fit."""
    has = ConfigParser(dict(config))
    if moving := next((target for _, target in _targets(config) if _base_name(target) in RESAMPLERS), None):
        raise SpecError(
            f"hardening.bundle: {moving} would move the stored grid again: corpora hold images as the victim's preprocessing made them; "
            "name a configuration without it"
        )
    run = settings.run or next((each for each in RUN_IDS if each in has), None)
    count = settings.epochs or next((each for each in EPOCHS if each in has), None)
    overrides: dict[str, str | int] = {f"{place}#reader": READER for place, target in _targets(config) if _base_name(target) == "LoadImage"}
    for key, found in (("run", run), ("epochs", count), ("network", settings.network), ("train_data", settings.train_data)):
        if found is None or found not in has:
            raise SpecError(f"hardening.bundle.{key}: its configuration has no {found or key}; say what it is called there")
    assert run is not None
    assert count is not None
    overrides |= {settings.train_data: items, count: epochs}
    if settings.validation_data in has:
        overrides[settings.validation_data] = checked
    overrides |= {folder: written for folder in settings.folders if folder in has}
    return Changed(run, overrides)


def _listed(path: Path, items: list[Json]) -> str:
    """Items in a file, as an expression that reads it: in values of a configuration MONAI takes `#` for the separator of its ids."""
    write_file(path, json.dumps(items).encode(), mode=0o600)
    return f"$__import__('json').loads(__import__('pathlib').Path({str(path)!r}).read_text())"


def items_of(corpus: Path, settings: BundleSettings, kinds: Sequence[str]) -> list[Json]:
    """Every image once a kind, `image` or `adversarial`, as items of their own, so that a cache freezes no draw.

    Of several attacks each image has one, in turn: an epoch is as long as the control's.
    """
    lists = [datalist(corpus, attack) for attack in open_corpus(corpus).attacks]
    found: list[Json] = []
    for kind in kinds:
        for row in range(len(lists[0])):
            item = lists[row % len(lists)][row]
            found.append({settings.image: item[kind], settings.label: item["label"]})
    return found


def configuration_of(root: Path, name: str) -> Path:
    """The file of a configuration.  SpecError where there is none."""
    for ending in (".json", ".yaml", ".yml"):
        if (path := root / "configs" / f"{name}{ending}").is_file():
            return path
    raise SpecError(f"hardening.bundle: no {name}.json or .yaml in {root / 'configs'}")


def read_configuration(file: Path) -> Config:
    """As data: nothing in it is evaluated."""
    config = ConfigParser.load_config_file(str(file))
    if not isinstance(config, dict):
        raise SpecError(f"{file}: no configuration of a bundle")
    return config


def hash_folder(root: Path) -> str:
    """SHA-256 over names and contents of all files below."""
    return hash_value({path.relative_to(root).as_posix(): hash_file(path) for path in sorted(root.rglob("*")) if path.is_file()})


def _targets(config: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Place and name of everything that a configuration builds."""
    pairs = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in pairs:
        if key == "_target_" and isinstance(value, str):
            yield place, value
        else:
            yield from _targets(value, f"{place}#{key}" if place else str(key))


def _base_name(target: str) -> str:
    """`Spacing` of Spacing, Spacingd, SpacingD, SpacingDict and their full names."""
    name = target.rpartition(".")[2]
    for ending in ("Dict", "D", "d"):
        if name.endswith(ending) and name not in (*RESAMPLERS, "LoadImage"):
            return name.removesuffix(ending)
    return name
