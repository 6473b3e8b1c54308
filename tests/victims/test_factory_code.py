"""Which code builds a factory's network: found in its own folder first, and hashed with what it imports from beside it."""

import sys
from pathlib import Path

import pytest
from tests.victims.test_programs import victim_settings

from medadv.common.errors import SpecError
from medadv.victims.sources.code import code_sha256, imported
from medadv.victims.sources.factory import from_factory

FILES = {
    "victimcode/__init__.py": "",
    "victimcode/net.py": "from . import blocks\n\n\ndef make():\n    import helper_beside\n    return blocks.layer()\n",
    "victimcode/blocks.py": "from torch import nn\n\n\ndef layer():\n    return nn.Linear(2, 2)\n",
    "victimcode/unused.py": "x = 1\n",
    "helper_beside.py": "y = 1\n",
    "elsewhere.py": "z = 1\n",
}


def write(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def hashed(folder: Path) -> str | None:
    for name in [each for each in sys.modules if each.startswith(("victimcode", "helper_beside"))]:
        del sys.modules[name]
    return code_sha256(imported("victimcode.net", folder))


@pytest.mark.parametrize("name", FILES)
def test_the_hash_covers_what_is_imported_from_beside_and_nothing_else(name: str, tmp_path: Path) -> None:
    first = hashed(write(tmp_path / "a"))
    other = write(tmp_path / "b")
    assert hashed(other) == first, "the same code elsewhere is the same code"
    (other / name).write_text(f"{FILES[name]}# changed\n")
    assert (hashed(other) == first) == (name in ("victimcode/unused.py", "elsewhere.py"))


def test_an_installed_package_is_hashed_alone() -> None:
    import monai.networks.nets.basic_unet as module

    assert code_sha256(module) == code_sha256(module)
    assert code_sha256(sys) is None


def test_two_folders_with_packages_of_one_name_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path / "a")
    other = write(tmp_path / "b")
    (other / "victimcode" / "blocks.py").write_text(FILES["victimcode/blocks.py"].replace("2, 2", "3, 3"))
    for folder, width in (("a", 2), ("b", 3), ("a", 2)):
        settings = victim_settings("python:victimcode.net:make").model_copy(update={"code": folder})
        network, _ = from_factory(settings.network, settings, tmp_path, True)
        assert network.in_features == width
    assert str(tmp_path / "a") not in sys.path


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    settings = victim_settings("python:victimcode.net:make").model_copy(update={"code": "none"})
    with pytest.raises(SpecError, match=r"victim\.code: no such folder"):
        from_factory(settings.network, settings, tmp_path, True)


RAISING = {
    "a syntax error": ("def make(:", "SyntaxError"),
    "a file that is not there": ("import torch\ndef make(): return torch.load('nowhere.pt')", "FileNotFoundError: .*nowhere.pt"),
    "a runtime error": ("def make(): raise RuntimeError('boom')", "RuntimeError: boom"),
    "a key": ("def make(): return {}['x']", "KeyError: 'x'"),
    "an assertion": ("def make(): assert False", "AssertionError"),
    "an exit": ("def make(): raise SystemExit(3)", "SystemExit: 3"),
    "an error of its own": ("class Odd(Exception): ...\ndef make(): raise Odd('odd')", "Odd: odd"),
    "another name": ("def other(): ...", "AttributeError: .*make"),
}


@pytest.mark.parametrize("what", RAISING)
def test_whatever_a_factory_raises_is_said_with_its_name(what: str, tmp_path: Path) -> None:
    code, said = RAISING[what]
    (tmp_path / "raising_victim.py").write_text(f"{code}\n")
    settings = victim_settings("python:raising_victim:make").model_copy(update={"code": "."})
    sys.modules.pop("raising_victim", None)
    with pytest.raises(SpecError, match=rf"victim\.network='python:raising_victim:make' cannot be built \({said}"):
        from_factory(settings.network, settings, tmp_path, True)
