"""Which importer does a spec ask for? A run spec whose victim names a folder of another tool becomes one of plain settings."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from medadv.common.errors import SpecError
from medadv.common.record import Json
from medadv.spec.reading import load_spec
from medadv.spec.run_spec import RunSpec
from medadv.victims.importers.bundle import import_bundle
from medadv.victims.importers.bundle.original import monai_logits
from medadv.victims.importers.imported import Imported, Written
from medadv.victims.importers.nnunet import nnunet_victim

SIGNS = {"bundle": (("configs",), "a MONAI bundle"), "nnunet": (("plans.json", "*/plans.json", "dataset.json"), "nnU-Net's trained folder")}
"""What lies in the folder of each importer, and what it is called."""
VICTIMS = ("victim", "second_victim")
Import = Callable[[Path, Mapping[str, Json], bool], Imported]
"""From the folder, what the spec writes beside it, and whether foreign code may run."""


def _bundle(folder: Path, given: Mapping[str, Json], trust_code: bool) -> Imported:
    name, head = given.get("configuration"), given.get("head")
    if name is not None and not isinstance(name, str):
        raise SpecError(f"configuration={name!r} names a file in the bundle's configs, such as inference")
    found = import_bundle(folder, trust_code, name, head if isinstance(head, str) else None)
    return replace(found, original=partial(monai_logits, folder, name)) if trust_code else found


IMPORTERS: dict[str, tuple[Import, tuple[str, ...]]] = {
    "bundle": (_bundle, ("configuration",)),
    "nnunet": (nnunet_victim, ("fold", "configuration", "checkpoint")),
}
"""By the key that names the folder: the importer, and the keys of its own settings."""


def read_spec(path: Path, overrides: Sequence[str] = (), trust_code: bool = False) -> tuple[RunSpec, list[str]]:
    """A run spec with its victims in plain settings, and what was understood, a line each.

    Raises SpecError for a wrong spec, and for a folder that is none of the tool's or cannot be expressed, saying what.
    """
    spec, found = read_imports(path, overrides, trust_code)
    return spec, [f"{key}: {note}" for key, imported in found.items() for note in imported.notes]


def read_imports(path: Path, overrides: Sequence[str] = (), trust_code: bool = False) -> tuple[RunSpec, dict[str, Imported]]:
    """The same, with what was imported for each victim, by its key."""
    found: dict[str, Imported] = {}

    def plain(data: Written) -> Written:
        base = path.resolve().parent
        for key in VICTIMS:
            data = _with_import(data, key, base, trust_code, found)
        if isinstance(several := data.get("victims"), dict):
            for name in several:
                # The first says what is left open of data and preprocessing, as a victim alone does.
                imported: dict[str, Imported] = {}
                own = _with_import({**data, "victim": data["victims"][name]}, "victim", base, trust_code, imported)
                found.update({f"victims.{name}": each for each in imported.values()})
                settings = own.pop("victim")
                data = {**(own if name == min(several) else data), "victims": {**data["victims"], name: settings}}
        return data

    return load_spec(path, list(overrides), plain), found


def _with_import(data: Written, key: str, base: Path, trust_code: bool, imported: dict[str, Imported]) -> Written:
    """The spec with one victim's folder replaced by what it holds. What the spec says itself wins."""
    given = data.get(key)
    if not isinstance(given, dict) or not (asked := [kind for kind in IMPORTERS if kind in given]):
        return data
    if len(asked) > 1:
        raise SpecError(f"{key}: {' and '.join(asked)} are two models; name one")
    importer, own = IMPORTERS[asked[0]]
    folder = given[asked[0]]
    if not isinstance(folder, str) or not folder:
        raise SpecError(f"{key}.{asked[0]} names a folder, relative to the spec")
    if not (base / folder).is_dir():
        raise SpecError(f"{key}.{asked[0]}: no such folder {base / folder}")
    try:
        found = importer(base / folder, given, trust_code)
    except SpecError as error:
        raise SpecError(f"{key}.{asked[0]}: {error}") from None
    imported[key] = found
    rest = {name: value for name, value in given.items() if name not in (asked[0], *own)}
    changed = {**data, key: {**_beside(found.victim, base, absolute=Path(folder).is_absolute()), **rest}}
    if key == "victim":
        for section, defaults in (("data", found.data), ("preprocess", found.preprocess)):
            said = changed.get(section, {})
            if isinstance(said, dict) and defaults:
                changed[section] = {**_left_open(defaults, said), **said}
    return changed


def _left_open(defaults: Mapping[str, Json], said: Written) -> Written:
    """What a model expects of the data, as far as the spec does not say it in another way: its classes, where it says what masks hold."""
    own = "label_map" in said or "threshold" in said or isinstance(said.get("label"), list)
    return {name: value for name, value in defaults.items() if not (own and name in ("classes", "label_map"))}


def imported_folder(folder: Path, trust_code: bool = False) -> Imported:
    """A folder of another tool, by what lies in it, with paths as they are.  Raises SpecError where it is none."""
    for kind, (signs, _) in SIGNS.items():
        if any(found for sign in signs for found in folder.glob(sign)):
            return IMPORTERS[kind][0](folder, {}, trust_code)
    expected = "; ".join(f"{what} has {' or '.join(signs)}" for signs, what in SIGNS.values())
    raise SpecError(f"{folder}: no folder of a trained model that is known: {expected}")


def _beside(victim: Mapping[str, Json], base: Path, *, absolute: bool) -> dict[str, Json]:
    """Paths of weights, program and code relative to the spec, where the folder was: a spec and its models may move together."""

    def relative(value: Json) -> Json:
        return os.path.relpath(value, base) if isinstance(value, str) and Path(value).is_absolute() else value

    if absolute:
        return dict(victim)
    moved = dict(victim)
    for name in ("network", "weights", "code"):
        value = victim.get(name)
        if value is not None:
            moved[name] = [relative(each) for each in value] if isinstance(value, list | tuple) else relative(value)
    return moved
