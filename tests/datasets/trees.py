"""Folders of empty or drawn files, and the spec that is guessed of them."""

from pathlib import Path
from typing import Any

from medadv.cli.init import init
from medadv.spec.reading import load_spec
from medadv.spec.run_spec import RunSpec


def tree(folder: Path, *names: str) -> Path:
    """Files without content; a mapping of names to texts would only say less."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def numbered(template: str, *numbers: Any) -> list[str]:
    return [template.format(number) for number in numbers]


def written(folder: Path) -> tuple[RunSpec, str]:
    """The spec that init writes for a folder, read and as text."""
    out = folder.with_name(f"{folder.name}.yaml")
    init(folder, out)
    return load_spec(out), out.read_text()
