"""scripts/environment: which interpreter the scripts beside it run with, and where its packages lie. A stand-in plays Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAKE = """#!/bin/bash
# A Python VERSION: makes environments, and installs nothing.
case "$*" in
  *"sys.version_info <"*) [ VERSION != 3.10 ] ;;
  *"sys.version_info[:2]"*) echo VERSION ;;
  *"sys.prefix"*) dirname "$(dirname "$(realpath "$0")")" ;;
  --version) echo "Python VERSION" ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m pip install "*) echo "$@" >>"$(dirname "$(dirname "$(realpath "$0")")")/installed" ;;
  *) exit 9 ;;
esac
"""


def fake(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE.replace("VERSION", version))
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "check out"
    (folder / "scripts").mkdir(parents=True)
    for name in ("scripts/environment", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    for version in ("3.10", "3.11", "3.13"):
        fake(tmp_path / "bin" / f"python{version}", version)
    return folder


def chosen(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout.parent / 'bin'}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MEDADV_PYTHON")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", '. scripts/environment; environment test; echo "$python"'],
        cwd=checkout,
        env={**kept, "PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_that_is_asked_for_has_an_environment_of_its_own(checkout: Path) -> None:
    active = fake(checkout.parent / "active" / "bin" / "python", "3.11")
    for name in ("python3.13", str(checkout.parent / "bin" / "python3.13")):
        done = chosen(checkout, MEDADV_PYTHON=name, VIRTUAL_ENV=str(active.parents[1]))
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{checkout}/.venv-3.13/bin/python\n"
    # Made and filled once.
    installed = (checkout / ".venv-3.13" / "installed").read_text().splitlines()
    assert len(installed) == len(set(installed)) == 2
    assert not (active.parents[1] / "installed").exists()
    other = chosen(checkout, MEDADV_PYTHON="python3.11")
    assert other.stdout == f"{checkout}/.venv-3.11/bin/python\n"


def test_otherwise_the_active_environment_is_taken_and_then_the_checkouts_own(checkout: Path) -> None:
    active = fake(checkout.parent / "active" / "bin" / "python", "3.11")
    assert chosen(checkout, VIRTUAL_ENV=str(active.parents[1])).stdout == f"{active}\n"
    own = fake(checkout / ".venv" / "bin" / "python", "3.11")
    assert chosen(checkout).stdout == f"{own}\n"


@pytest.mark.parametrize("name", ["python3.10", "no-such-python"])
def test_a_python_that_is_too_old_or_missing_is_refused_in_one_line(checkout: Path, name: str) -> None:
    done = chosen(checkout, MEDADV_PYTHON=name)
    assert done.returncode == 2
    assert done.stderr == f"Python 3.11 or newer is needed, and none was found: {name}\n"
    assert not list(checkout.glob(".venv*"))
