"""`medadv init`: a run spec guessed from a folder or from a template, or the scripts of a schedule."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, get_args

import typer

from medadv.cli.completion import schedules, templates
from medadv.cli.console import tell
from medadv.common.errors import SpecError, first_line
from medadv.spec.modality import MODALITIES

*_MOST, _LAST = MODALITIES
SPEC, SCHEDULE = Path("medadv.yaml"), Path("schedule")


def init(
    folder: Annotated[Path | None, typer.Argument(help="data folder to look at")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help=f"spec to write; {SPEC} otherwise. Of a schedule the folder; {SCHEDULE} otherwise")
    ] = None,
    modality: Annotated[str | None, typer.Option(help=f"{', '.join(_MOST)} or {_LAST}, where the guess is wrong")] = None,
    template: Annotated[
        str | None,
        typer.Option(help="begin with a spec that medadv brings, such as polyps; an unknown name lists all", autocompletion=templates),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="write what starts runs by itself: slurm, jobqueue, cron or systemd", autocompletion=schedules),
    ] = None,
) -> None:
    """Write a commented run spec, guessed from a data folder or begun from a template, or the scripts that start runs by themselves.

    \b
    Example: medadv init data/polyps --modality endoscopy --out polyps.yaml
             medadv init --template polyps --out polyps.yaml
             medadv init --schedule slurm
    """
    if folder is not None and not folder.is_dir():
        raise SpecError(f"{folder}: no such folder; name the one that holds the images")
    if schedule is not None:
        if folder is not None or modality is not None or template is not None:
            raise SpecError("--schedule writes no spec: it goes without a data folder, --modality and --template")
        _write_schedule(schedule, out or SCHEDULE)
        return
    spec = out or SPEC
    if spec.exists():
        raise SpecError(f"{spec}: exists already; name another file with --out")
    if template is not None:
        if modality is not None:
            raise SpecError("--template says its modality itself: it goes without --modality")
        _from_template(template, folder, spec)
    elif folder is not None:
        _guess(folder, modality, spec)
    else:
        raise SpecError("nothing to begin with: name the folder that holds the images, or --template NAME, or --schedule NAME")


def _guess(folder: Path, modality: str | None, out: Path) -> None:
    from medadv.datasets.first_spec import spec_text, way_between
    from medadv.datasets.guess import guess
    from medadv.spec.data import Layout

    if modality not in (None, *MODALITIES):
        raise SpecError(f"--modality {modality}: take {', '.join(MODALITIES)}")
    found = guess(folder, modality)
    if found is None:
        raise SpecError(f"{folder}: no images or label files that medadv knows; layouts: {', '.join(get_args(Layout))}")
    text = spec_text(found, way_between(out.resolve().parent, folder.resolve()), out.stem)
    _write(out, text, f"{folder}: no spec can be written for what its files seem to be")
    _next(out, f"{found.layout} layout, {found.modality}, {found.task}")


def _from_template(name: str, folder: Path | None, out: Path) -> None:
    from medadv.datasets.first_spec import way_between
    from medadv.spec.templates import find_template, own_spec

    template = find_template(name)
    data = "data" if folder is None else way_between(out.resolve().parent, folder.resolve())
    _write(out, own_spec(template, data), f"{folder}: no path that a spec can hold")
    _next(out, f"template {template.stem}")


def _write(out: Path, text: str, problem: str) -> None:
    from medadv.common.files import writable_file, write_file
    from medadv.spec.reading import load_spec

    writable_file(out)
    try:
        write_file(out, text.encode())
        load_spec(out)
    except (SpecError, OSError, UnicodeError) as error:
        with suppress(OSError):
            out.unlink(missing_ok=True)
        raise SpecError(f"{problem} ({first_line(error)})") from None


def _next(out: Path, what: str) -> None:
    tell(f"{out}: {what}")
    tell(f"Set the lines marked with `<-`, then: medadv plan {out}")


def _write_schedule(name: str, folder: Path) -> None:
    from medadv.run.schedules import write_schedule

    files, then = write_schedule(name, folder)
    for file in files:
        tell(str(file))
    tell(f"Next: {then}")
