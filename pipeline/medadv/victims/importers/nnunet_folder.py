"""Which trainings lie in a folder of nnU-Net's results, and which of their checkpoints are meant?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medadv.common.errors import SpecError
from medadv.victims.sources.checkpoint import read_checkpoint

Fold = int | str
ALL = "all"
"""nnU-Net's name of the training on every case, `fold_all`: no set of folds."""
NAMED = ("final", "best", "latest")


@dataclass(frozen=True)
class Member:
    """A checkpoint as nnU-Net's trainer writes it.  mirror: axes of the network's input that training mirrored, or None."""

    file: Path
    trainer: str
    configuration: str
    mirror: tuple[int, ...] | None
    content: Mapping[str, Any]


def model_folder(folder: Path, configuration: str | None) -> Path:
    """The folder of one training: `folder` itself, or the one in it whose name ends with the configuration.  Raises SpecError."""
    if not folder.is_dir():
        raise SpecError(f"no such folder {folder}")
    if (folder / "plans.json").is_file():
        return folder
    held = sorted(each.parent for each in folder.glob("*/plans.json"))
    found = [each for each in held if configuration is None or each.name.endswith(f"__{configuration}")]
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.name for each in held)
    if not held:
        raise SpecError(f"{folder} is no folder of a trained model: it holds no plans.json, and no folder with one")
    if not found:
        raise SpecError(f"nothing in {folder} was trained as configuration {configuration!r}; there are {names}")
    raise SpecError(f"{folder} holds {len(held)} trained models ({names}); name the folder of one, or its configuration")


def fold_folders(model: Path, fold: Fold | Sequence[Fold] | None, checkpoint: str) -> list[Path]:
    """The checkpoint of each fold that is asked for; of all numbered folds that have it where nothing is asked.  Raises SpecError."""
    name = f"checkpoint_{checkpoint}.pth" if checkpoint in NAMED else checkpoint
    if Path(name).name != name:
        raise SpecError(f"checkpoint={checkpoint!r} is neither {', '.join(NAMED)} nor the name of a file in the folds' folders")
    places = [each for each in model.glob("fold_*") if (each / name).is_file()]
    held = sorted((each.name.removeprefix("fold_") for each in places), key=lambda each: (len(each), each))
    if fold is None:
        wanted = [each for each in held if each != ALL] or held
    else:
        wanted = [str(each) for each in ([fold] if isinstance(fold, int | str) else fold)]
    missing = [each for each in wanted if each not in held]
    if missing or not wanted:
        there = f"there are folds {', '.join(held)}" if held else "no fold has one"
        which = f"fold {missing[0]} has no {name}" if missing else f"there is no {name}"
        raise SpecError(f"{which} in {model}; {there}")
    if len(set(wanted)) != len(wanted):
        raise SpecError(f"fold={wanted} names a fold twice")
    return [model / f"fold_{each}" / name for each in wanted]


def read_member(file: Path) -> Member:
    """A checkpoint and what its trainer noted in it.  Raises SpecError."""
    content = read_checkpoint(file)
    try:
        mirror = content.get("inference_allowed_mirroring_axes")
        return Member(
            file,
            str(content["trainer_name"]),
            str(content["init_args"]["configuration"]),
            None if mirror is None else tuple(int(axis) for axis in mirror),
            content,
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SpecError(
            f"{file} is no checkpoint of nnU-Net version 2: trainer_name, init_args or inference_allowed_mirroring_axes is "
            "missing or of another kind"
        ) from None
