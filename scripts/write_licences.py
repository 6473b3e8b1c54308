#!/usr/bin/env python3
"""Write pipeline/LICENSES.md: what the default installation's packages say of their licences. With --report, judge what pip would install.

    scripts/write_licences.py                                  # the installed closure of pyproject.toml's dependencies, into the document
    pip install --dry-run --ignore-installed --report r.json . && scripts/write_licences.py --report r.json
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "pipeline" / "LICENSES.md"
NVIDIA = "LicenseRef-NVIDIA-Proprietary"

# fmt: off
ALLOWED = frozenset([
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC",
    "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib",
])
# fmt: on
"""SPDX identifiers that a device maker can ship; BSD where a package does not say which."""

SPELLINGS = {
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "FreeBSD": "BSD-2-Clause",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": NVIDIA,
    "Python Software Foundation License": "PSF-2.0",
}
"""How metadata older than SPDX expressions write them."""

BY_HAND = {"cuda-toolkit": NVIDIA}
"""What declares nothing: a package without content that chooses NVIDIA's wheels."""

NOTES = {
    "cuda-toolkit": "names the wheels below; holds nothing",
    "nvidia-cublas": "linear algebra on the GPU",
    "nvidia-cuda-cccl": "headers of CUDA's C++ libraries",
    "nvidia-cuda-cupti": "profiling",
    "nvidia-cuda-nvrtc": "compiling kernels at run time",
    "nvidia-cuda-runtime": "CUDA's runtime",
    "nvidia-cudnn-cu13": "convolutions",
    "nvidia-cufft": "Fourier transforms",
    "nvidia-cufile": "reading files into GPU memory",
    "nvidia-curand": "random numbers",
    "nvidia-cusolver": "solvers",
    "nvidia-cusparse": "sparse matrices",
    "nvidia-cusparselt-cu13": "structured sparsity",
    "nvidia-nccl-cu13": "several GPUs",
    "nvidia-nvjitlink": "linking kernels at run time",
    "nvidia-nvshmem-cu13": "several GPUs",
    "nvidia-nvtx": "marks for profiles",
}

GCC = "GPL-3.0-or-later WITH GCC-exception-3.1"
LIBQUADMATH = "LGPL-2.1-or-later, **without** that exception"
INSIDE = {
    ("numpy", "libgfortran"): (GCC, "`LICENSE.txt` of the wheel, *GCC runtime library*"),
    ("numpy", "libquadmath"): (LIBQUADMATH, "`LICENSE.txt` of the wheel, *libquadmath*"),
    ("scipy", "libgfortran"): (GCC, "`LICENSE.txt` of the wheel, *GCC runtime library*"),
    ("scipy", "libquadmath"): (LIBQUADMATH, "`LICENSE.txt` of the wheel, *libquadmath*"),
    ("torch", "libgfortran"): (GCC, "GCC's sources, `libgfortran/`"),
    ("torch", "libgomp"): (GCC, "GCC's sources, `libgomp/`"),
    ("imagecodecs", "libgomp"): (GCC, "GCC's sources, `libgomp/`"),
    ("torchvision", "libcudart"): (NVIDIA, "NVIDIA's CUDA toolkit agreement"),
    ("torchvision", "libnvjpeg"): (NVIDIA, "NVIDIA's CUDA toolkit agreement"),
}
"""(package, shared library) -> licence and where it is said: what wheels carry that is less permissive than they are."""

WATCHED = re.compile(
    r"(lib(?:gfortran|gomp|quadmath|gcc_s|stdc\+\+|atomic|cudart|nvjpeg|nvcuvid|mpfr|gmp|readline|jbig|x264|x265|heif|de265|avcodec|avformat"
    r"|fribidi|fftw3|gsl|lzo2))[-.].*so"
)
"""Libraries under GNU licences or NVIDIA's: whichever of them a wheel carries has to stand in INSIDE."""


@dataclass(frozen=True)
class Declared:
    """What one package says of its licence."""

    package: str
    licence: str

    @property
    def proprietary(self) -> bool:
        """NVIDIA's wheels, which PyTorch's for GPUs ask for; of nobody else."""
        return self.licence == NVIDIA and self.package.startswith(("nvidia-", "cuda-"))

    @property
    def allowed(self) -> bool:
        """Every part that holds at once leaves a choice that is allowed."""
        parts = re.split(r"\s+AND\s+", self.licence)
        return self.proprietary or all(any(one.strip("() ") in ALLOWED for one in re.split(r"\s+OR\s+", part)) for part in parts)


def requirements() -> list[str]:
    """The default dependencies of pyproject.toml."""
    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


def closure(wanted: Iterable[str], find: Callable[[str], Distribution] = distribution) -> dict[str, Distribution]:
    """Canonical name -> distribution of all that `wanted` needs here, with the extras that are asked for and no others."""
    found: dict[str, Distribution] = {}
    seen: dict[str, set[str]] = {}
    queue = [Requirement(line) for line in wanted]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        if extras <= seen.setdefault(name, set()):
            continue
        seen[name] |= extras
        found[name] = find(name)
        for line in found[name].requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in seen[name]):
                queue.append(needed)
    return found


def declared(name: str, expression: str | None, field: str | None, classifiers: Iterable[str]) -> Declared:
    """The SPDX expression where there is one; otherwise the licence field, where it is no whole text, and the classifiers, together."""
    if expression:
        return Declared(name, expression)
    said = [line.split(" :: ")[-1] for line in classifiers if line.startswith("License :: ")]
    # "Dual License" names none: the classifiers do, and each of them has to be on the list.
    if field and field.strip() not in ("", "Dual License") and (len(field) < 80 or not said):
        said.insert(0, field.strip().partition("\n")[0])
    parts = list(dict.fromkeys(SPELLINGS.get(one, one) for one in said))
    if any(part.startswith("BSD-") for part in parts):
        parts = [part for part in parts if part != "BSD"]
    return Declared(name, " AND ".join(parts) or BY_HAND.get(name, "nothing declared"))


def of_distribution(name: str, found: Distribution) -> Declared:
    """What an installed package declares."""
    facts = found.metadata
    return declared(name, facts.get("License-Expression"), facts.get("License"), facts.get_all("Classifier") or [])


def of_report(report: Path) -> list[Declared]:
    """What the packages of a report of `pip install --dry-run --report` declare."""
    facts = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return [
        declared(canonicalize_name(one["name"]), one.get("license_expression"), one.get("license"), one.get("classifier", []))
        for one in sorted(facts, key=lambda one: canonicalize_name(one["name"]))
    ]


def carried(name: str, found: Distribution) -> set[tuple[str, str]]:
    """(package, library) of all watched libraries among the files of a package; none where it is NVIDIA's anyway."""
    if of_distribution(name, found).proprietary:
        return set()
    return {(name, match[1]) for file in found.files or [] if (match := WATCHED.match(file.name))}


def tables(facts: Iterable[Declared]) -> dict[str, str]:
    """Mark in the document -> generated table."""
    facts = sorted(facts, key=lambda one: one.package)
    open_ones = [f"| {one.package} | {one.licence} |" for one in facts if not one.proprietary]
    closed = [f"| {one.package} | {NOTES.get(one.package, '')} |" for one in facts if one.proprietary]
    inside = [f"| {package} | `{library}` | {licence} | {source} |" for (package, library), (licence, source) in INSIDE.items()]
    return {
        "packages": "\n".join(["| package | licence as declared |", "|---|---|", *open_ones]),
        "proprietary": "\n".join(["| package | for |", "|---|---|", *closed]),
        "inside": "\n".join(["| wheel | library | licence | said in |", "|---|---|---|---|", *inside]),
    }


def filled(text: str, facts: Iterable[Declared]) -> str:
    """The document with its tables made anew."""
    for name, content in tables(facts).items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text = marks.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    return text


def main() -> int:
    """Exit code: 1 where a licence is not on the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="judge pip's report instead of writing the document")
    options = parser.parse_args()
    try:
        facts = of_report(options.report) if options.report else [of_distribution(*item) for item in closure(requirements()).items()]
    except PackageNotFoundError as error:
        parser.error(f"{error.name} is not installed; ./scripts/test makes an environment that has all")
    refused = [one for one in facts if not one.allowed]
    for one in refused:
        print(f"{one.package}: {one.licence}: not on the list of scripts/write_licences.py")
    closed = sum(one.proprietary for one in facts)
    print(f"{len(facts)} packages, {closed} proprietary (NVIDIA), {len(refused)} not allowed")
    if not options.report:
        DOCUMENT.write_text(filled(DOCUMENT.read_text(), facts))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
