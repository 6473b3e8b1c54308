"""Where do the files lie that come with medadv and are no code? In its package, by a wheel, or in the checkout that runs."""

from pathlib import Path
from typing import Literal

from medadv.common.errors import SpecError

Shipped = Literal["specs", "schedule"]
PACKAGE = Path(__file__).resolve().parents[1]
IN_WHEEL = "shipped"
IN_CHECKOUT: dict[Shipped, str] = {"specs": "manifests/specs", "schedule": "scripts/schedule"}
"""Where they stand in the repository, and nowhere else: pyproject.toml has the wheel take them from there (`force-include`)."""


def shipped(kind: Shipped) -> Path:
    """The folder with the files of a kind.

    Raises SpecError: it is in neither place, as where somebody copied the package's modules alone.
    """
    for folder in (PACKAGE / IN_WHEEL / kind, PACKAGE.parents[1] / IN_CHECKOUT[kind]):
        if folder.is_dir():
            return folder
    raise SpecError(f"{IN_CHECKOUT[kind]} did not come with this medadv; install its wheel, or copy them from its repository")


def nearest(name: str, known: list[str]) -> list[str]:
    """The names that somebody may have meant: that name alone, or all of which a word, between hyphens, begins like it or as it does.

    `polyps` is polyp-detection, `lung` is each of three.
    """
    wanted = name.lower()
    if wanted in known:
        return [wanted]
    return [each for each in known if wanted and any(word.startswith(wanted) or wanted.startswith(word) for word in each.split("-"))]
