"""What exported files are called, told before any is written, so that none is written twice."""

from collections.abc import Iterable, Sequence

from medadv.common.errors import SpecError

ENDINGS = {"nifti": ".nii.gz", "png": ".png"}


def series_of(sample: str) -> tuple[str, int | None]:
    """Series that a sample was read from, and which slice of it; None for whole volumes and photographs.

    A sample's id is the hash of its source's files and, for a slice, its number behind a hyphen.
    """
    series, _, number = sample.partition("-")
    return (series, int(number)) if number.isdigit() else (sample, None)


def image_file(kind: str, sample: str, attack: str | None, number: int | None = None) -> str:
    """File of an image. DICOM: one a slice in the folder of its series; number: of the slice, counted from 1."""
    if kind != "dicom":
        return f"{sample}_{attack or 'clean'}{ENDINGS[kind]}"
    series, index = series_of(sample)
    if number is None:
        number = 1 if index is None else index + 1
    return f"{series}_{attack or 'clean'}/{number:04d}.dcm"


def mask_files(kind: str, sample: str, shape: Sequence[int], spatial: int) -> list[str]:
    """Files of a label of `shape` beside images of `spatial` axes: PNG has one a class where masks may overlap, counted from 1.

    None of classes and boxes, which stand in a table, and none beside DICOM.
    """
    if kind == "dicom" or len(shape) < spatial:
        return []
    if kind == "nifti" or len(shape) == spatial:
        return [f"{sample}_label{ENDINGS[kind]}"]
    return [f"{sample}_label_{number}{ENDINGS[kind]}" for number in range(1, shape[0] + 1)]


def refuse_repeats(names: Iterable[str]) -> None:
    """Raise SpecError where a name comes twice, in upper or lower case, since many file systems do not tell them apart."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise SpecError(
                f"{name} would be written twice, so nothing was written: an attack is called like the clean image or the mask, "
                "or a sample stands in the corpus twice; leave --clean out, or choose another --attack"
            )
        seen.add(name.casefold())
