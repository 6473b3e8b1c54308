"""`medadv init`: guess a run spec from a folder."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, get_args

import typer

from medadv.common.errors import SpecError, first_line
from medadv.spec.modality import MODALITIES

*_MOST, _LAST = MODALITIES


def init(
    folder: Annotated[Path, typer.Argument(help="data folder to look at")],
    out: Annotated[Path, typer.Option("--out", help="spec to write")] = Path("medadv.yaml"),
    modality: Annotated[str | None, typer.Option(help=f"{', '.join(_MOST)} or {_LAST}, where the guess is wrong")] = None,
) -> None:
    """Look at a data folder, guess its layout, and write a commented run spec.

    Example: medadv init data/polyps --modality endoscopy --out polyps.yaml
    """
    from medadv.common.files import writable_file, write_file
    from medadv.datasets.first_spec import spec_text, way_between
    from medadv.datasets.guess import guess
    from medadv.spec.data import Layout
    from medadv.spec.reading import load_spec

    if not folder.is_dir():
        raise SpecError(f"{folder}: no such folder; name the one that holds the images")
    if out.exists():
        raise SpecError(f"{out}: exists already; name another file with --out")
    if modality not in (None, *MODALITIES):
        raise SpecError(f"--modality {modality}: take {', '.join(MODALITIES)}")
    found = guess(folder, modality)
    if found is None:
        raise SpecError(f"{folder}: no images or label files that medadv knows; layouts: {', '.join(get_args(Layout))}")
    text = spec_text(found, way_between(out.resolve().parent, folder.resolve()), out.stem)
    writable_file(out)
    try:
        write_file(out, text.encode())
        load_spec(out)
    except (SpecError, OSError, UnicodeError) as error:
        with suppress(OSError):
            out.unlink(missing_ok=True)
        raise SpecError(f"{folder}: no spec can be written for what its files seem to be ({first_line(error)})") from None
    print(f"{out}: {found.layout} layout, {found.modality}, {found.task}")
    print(f"Set the lines marked with `<-`, then: medadv plan {out}")
