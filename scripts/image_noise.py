#!/usr/bin/env python
"""How does the epsilon of a run spec compare with the noise of its images, as they are stored? Needs the images, not the victim.

    python scripts/image_noise.py manifests/specs/lung-slices.yaml medadv-demo/specs/fundus.yaml

CT: as reports tell the scanner's noise (pipeline/medadv/report/noise.py). Photographs: the median of the absolute diagonal differences
in squares of 2 x 2 pixels, neither black nor saturated, over 0.6745 (Donoho and Johnstone 1994, Biometrika 81:425-455). Resizing and JPEG
take noise away before it is stored.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medadv.common.errors import SpecError
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.report.noise import sample_noise
from medadv.spec.reading import load_spec
from medadv_transforms.errors import InputError

LIT = (10, 245)
"""Grey levels between black and saturated."""
FEWEST = 300
"""Squares that it takes."""


def ct_noise(image: NDArray[np.int16]) -> float | None:
    """HU, of (1, *spatial) whose first two axes are those of a slice, as reports tell it. None where there is too little soft tissue."""
    slices = image[0].reshape(*image.shape[1:3], -1)
    return sample_noise(slices[..., index] for index in range(slices.shape[-1])).tissue


def photograph_noise(image: NDArray[np.uint8]) -> float | None:
    """Grey levels, of (3, y, x): the median over the colours. None where too little is lit."""
    told = []
    for plane in image[:, : image.shape[1] // 2 * 2, : image.shape[2] // 2 * 2].astype(np.float64):
        corners = np.stack([plane[::2, ::2], plane[1::2, 1::2], plane[::2, 1::2], plane[1::2, ::2]])
        lit = (corners.min(0) > LIT[0]) & (corners.max(0) < LIT[1])
        if lit.sum() >= FEWEST:
            told.append(np.median(np.abs(corners[0] + corners[1] - corners[2] - corners[3])[lit]) / 2 / 0.6745)
    return float(np.median(told)) if told else None


def told(path: Path) -> str:
    """A line about a spec: noise of its images, and epsilon of its attacks beside it."""
    spec = load_spec(path)
    listing = list_samples(spec.data, path.parent)
    reader = Reader(listing.root, spec.data, spec.preprocess)
    measure, unit = (ct_noise, "HU") if spec.data.modality == "ct" else (photograph_noise, "grey levels")
    found = []
    for source in listing.sources:
        try:
            found += [measure(reader.read(part).image) for part in reader.expand(source)]
        except InputError:
            continue  # a run quarantines it
    values = [value for value in found if value is not None]
    if not values:
        return f"{path}: no noise can be told of {len(found)} images"
    low, median, high = np.percentile(values, (5, 50, 95))
    ratios = ", ".join(f"{name} {each.epsilon / median:.1f} times" for name, each in spec.attacks.items())
    return f"{path}: noise {median:.1f} {unit} ({low:.1f} to {high:.1f}) in {len(values)} of {len(found)} images; epsilon: {ratios}"


def main() -> None:
    """A line for each spec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="+", type=Path)
    for path in parser.parse_args().specs:
        try:
            print(told(path), flush=True)
        except SpecError as error:
            print(f"{path}: {error}")


if __name__ == "__main__":
    main()
