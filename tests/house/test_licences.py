"""Licences: what the default installation brings along is permissive, or said to be otherwise; medadv's own is there in full."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import types
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import hatchling.build
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.conftest import load_script

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def licences() -> types.ModuleType:
    return load_script("write_licences.py")


def write_package(folder: Path, name: str, *lines: str) -> Distribution:
    """An installed package of version 1 with metadata of one's own."""
    facts = folder / f"{name}-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1", *lines, ""]))
    return Distribution.at(facts)


def test_every_package_of_the_default_installation_is_on_the_list(licences: types.ModuleType) -> None:
    facts = [licences.of_distribution(*item) for item in licences.closure(licences.requirements()).items()]
    assert {one.package for one in facts} >= {"torch", "numpy", "imagecodecs", "distributed", "tornado"}
    assert [f"{one.package}: {one.licence}" for one in facts if not one.allowed] == []
    assert not any(re.search(r"GPL", one.licence) for one in facts)
    # Several platforms share the document: a package that is here has its row there, in the words of its metadata.
    text = licences.DOCUMENT.read_text()
    rows = [f"| {one.package} | {licences.NOTES[one.package] if one.proprietary else one.licence} |" for one in facts]
    assert [row for row in rows if row not in text] == [], "run scripts/write_licences.py"


def test_what_wheels_carry_inside_is_said(licences: types.ModuleType) -> None:
    found = licences.closure(licences.requirements())
    carried = set().union(*(licences.carried(name, each) for name, each in found.items()))
    assert carried <= set(licences.INSIDE), "a wheel carries a library that pipeline/LICENSES.md does not name"
    assert licences.tables([])["inside"] in licences.DOCUMENT.read_text(), "run scripts/write_licences.py"


@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        (["License-Expression: MIT"], True),
        (["License-Expression: GPL-3.0-or-later"], False),
        (["License-Expression: MIT OR GPL-3.0-or-later"], True),
        (["License-Expression: MIT AND LGPL-2.1-only"], False),
        (["License-Expression: GPL-3.0-or-later WITH GCC-exception-3.1"], False),
        (["License: GPL V3.0", "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"], False),
        (["License: MIT", "Classifier: License :: GNU Lesser General Public License v3 (LGPLv3)"], False),
        (["Classifier: License :: OSI Approved :: BSD License"], True),
        (["License: BSD-3-Clause", "Classifier: License :: OSI Approved :: BSD License"], True),
        (["License: LicenseRef-NVIDIA-Proprietary"], False),
        ([], False),
    ],
)
def test_a_licence_is_judged(lines: list[str], allowed: bool, licences: types.ModuleType, tmp_path: Path) -> None:
    assert licences.of_distribution("fake", write_package(tmp_path, "fake", *lines)).allowed is allowed


def test_a_dependency_of_a_dependency_is_found_with_its_extras_and_markers(licences: types.ModuleType, tmp_path: Path) -> None:
    needs = [
        'Requires-Dist: Middle_One[fast]; python_version >= "3"',
        'Requires-Dist: never; python_version < "3"',
        'Requires-Dist: test; extra == "t"',
    ]
    packages = {
        "top": write_package(tmp_path, "top", "License-Expression: MIT", *needs),
        "middle-one": write_package(tmp_path, "middle_one", 'Requires-Dist: copyleft; extra == "fast"', "Requires-Dist: top"),
        "copyleft": write_package(tmp_path, "copyleft", "License: GPL V3.0"),
    }
    found = licences.closure(["top>=1"], packages.__getitem__)
    assert set(found) == set(packages)
    assert [name for name, each in found.items() if "GPL" in licences.of_distribution(name, each).licence] == ["copyleft"]
    # Without the extra nobody asks for it.
    assert set(licences.closure(["middle-one"], {**packages, "top": packages["copyleft"]}.__getitem__)) == {"middle-one", "top"}


def test_the_decoder_before_would_be_found_and_nobody_asks_for_it(licences: types.ModuleType) -> None:
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    assert "pylibjpeg-libjpeg" not in {canonicalize_name(Requirement(line).name) for line in lines}
    assert "pylibjpeg-libjpeg" not in (ROOT / "constraints.txt").read_text()
    try:
        found = distribution("pylibjpeg-libjpeg")
    except PackageNotFoundError:
        pytest.skip("pylibjpeg-libjpeg (GPL) is not installed, as it should not be")
    assert not licences.of_distribution("pylibjpeg-libjpeg", found).allowed


def test_a_report_of_pip_is_judged(licences: types.ModuleType, tmp_path: Path) -> None:
    entries = [{"metadata": {"name": "Good_One", "license_expression": "MIT"}}, {"metadata": {"name": "bad", "license": "LGPL"}}]
    (tmp_path / "report.json").write_text(json.dumps({"install": entries}))
    command = [sys.executable, str(ROOT / "scripts" / "write_licences.py"), "--report", str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "bad: LGPL: not on the list" in done.stdout
    assert "good-one" not in done.stdout


def test_the_licence_is_the_apache_software_foundations_text() -> None:
    # The text as apache.org has it, byte for byte.
    assert PROJECT["license"] == "Apache-2.0"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert "LICENSE" in PROJECT["license-files"]


def test_the_citation_names_the_software_and_the_attacks_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    # What the schema of CFF 1.2.0 requires.
    assert {"message", "title", "authors"} <= set(cited)
    assert (cited["type"], cited["license"], cited["version"]) == ("software", PROJECT["license"], PROJECT["version"])
    (paper,) = [one for one in cited["references"] if "2103.05232" in json.dumps(one, default=str)]
    assert paper["title"] == "Stabilized Medical Image Attacks"
    assert paper["year"] == 2021
    assert [author["family-names"] for author in paper["authors"]] == ["Qi", "Gong", "Song", "Ma", "Zheng"]


def test_licence_and_citation_travel_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / hatchling.build.build_wheel(str(tmp_path))) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        (text,) = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
        assert wheel.read(text) == (ROOT / "LICENSE").read_bytes()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nLicense-File: LICENSE\n" in metadata
    with tarfile.open(tmp_path / hatchling.build.build_sdist(str(tmp_path))) as source:
        assert {"LICENSE", "CITATION.cff", "pyproject.toml"} <= {name.partition("/")[2] for name in source.getnames()}
