"""Configurations that would run something, blow up, or lead elsewhere: refused in one line, at once, and nothing runs."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.victims import small_bundles as small

from medadv.common.errors import SpecError
from medadv.victims.importers.bundle import import_bundle
from medadv.victims.importers.bundle.configuration import Configuration, absolute, imports
from medadv.victims.importers.bundle.values import NotReadable, Symbol, Unreadable

AT_ONCE = 5.0
"""Seconds that a refusal may take at most."""


class Planted:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def bundle_with(folder: Path, value: Any, **entries: Any) -> Path:
    """A bundle whose number of classes is `value`."""
    config = small.spleen() | entries
    config["network_def"]["out_channels"] = value
    return small.write_bundle(folder / "bundle", config)


def refused(bundle: Path) -> str:
    began = time.monotonic()
    with pytest.raises(SpecError) as caught:
        import_bundle(bundle, False)
    assert time.monotonic() - began < AT_ONCE
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


CODE = {
    "import": "__import__('os').system('mkdir MARK')",
    "module": "os.system('mkdir MARK')",
    "imported by the configuration": "glob.os.system('mkdir MARK')",
    "open": "open('MARK', 'w')",
    "eval": "eval('1')",
    "attributes": "(1).__class__.__bases__[0].__subclasses__()",
    "attribute of a text": "''.format.__globals__",
    "attribute of a network": "@inferer.__class__",
    "method of a network": "@inferer.to.__globals__",
    "lookup": "getattr(1, 'real')",
    "function": "(lambda: 2)()",
    "computed list": "[i for i in range(10 ** 9)][0]",
    "assignment": "(x := 2)",
    "download": "torch.hub.load('a/b', 'c')",
    "formatted": "f'{@bundle_root!r:>99999999}'",
    "generator": "sum(i for i in [1])",
    "spread": "max(*[1, 2])",
    "code of MONAI": "monai.bundle.run('x').network",
}


@pytest.mark.parametrize("name", CODE)
def test_code_asks_for_trust(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = refused(bundle_with(tmp_path, f"${CODE[name].replace('MARK', str(mark))}"))
    assert "out_channels" in text
    assert text.endswith(": allow running it with --trust-code")
    assert not mark.exists()


HUGE = {
    "power": "2 ** 10 ** 9",
    "powers of powers": "9 ** 9 ** 9 ** 9",
    "root of a negative number": "(-8) ** 0.5",
    "factor": "99999999999999999999 * 99999999999999999999",
    "text": "'a' * 10 ** 10",
    "list": "[0] * 10 ** 10",
    "range": "list(range(10 ** 12))",
    "backwards": "list(range(0, -10 ** 12, -1))",
    "division": "1 / 0",
    "digits": "int('9' * 10000)",
    "no number": "float('nan')",
    "infinite": "1e308 * 10",
    "brackets": "(" * 400 + "1" + ")" * 400,
    "lists": "[" * 150 + "1" + "]" * 150,
    "signs": "-" * 5000 + "1",
    "long": "1 + " * 4000 + "1",
    "broken": "1 +",
    "no byte": "'\0'",
    "another type": "1 + 'a'",
    "nowhere": "[1, 2][7]",
}


@pytest.mark.parametrize("name", HUGE)
def test_what_has_no_sensible_size_is_refused(name: str, tmp_path: Path) -> None:
    assert "out_channels" in refused(bundle_with(tmp_path, f"${HUGE[name]}"))


def test_references_in_circles_are_named(tmp_path: Path) -> None:
    text = refused(bundle_with(tmp_path, "@one", one="$@two + 1", two="@three", three="$[@one][0]"))
    assert "refers to itself" in text
    macro = refused(bundle_with(tmp_path / "macro", "%macro", macro="%macro"))
    assert "macros" in macro


def test_references_that_double_are_counted(tmp_path: Path) -> None:
    doubling = {f"level{number}": [f"@level{number + 1}"] * 2 for number in range(30)} | {"level30": 1}
    assert "more than 100000 values" in refused(bundle_with(tmp_path, "@level0", **doubling))
    compared = refused(bundle_with(tmp_path / "compared", "$@level0 == [@level1, @level1]", **doubling))
    assert "compares list" in compared


def test_a_long_chain_of_references_is_refused(tmp_path: Path) -> None:
    chain = {f"link{number}": f"$@link{number + 1}" for number in range(2000)} | {"link2000": 2}
    assert "references" in refused(bundle_with(tmp_path, "@link0", **chain))


OUTSIDE = {
    "up": "../../secret.pt",
    "absolute": "/etc/passwd",
    "through the bundle": "models/../../../secret.pt",
    "no path": "a\0b",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_paths_stay_in_the_bundle(name: str, tmp_path: Path) -> None:
    torch.save({"value": 2}, tmp_path / "secret.pt")
    path = OUTSIDE[name]
    refused(bundle_with(tmp_path, f"$torch.load({path!r})['value']"))
    config = small.spleen()
    config["checkpointloader"] = {**small.LOADER, "load_path": path}
    text = refused(small.write_bundle(tmp_path / "weights", config))
    assert "leads out of the bundle" in text or name == "no path"


def test_links_do_not_lead_out_of_the_bundle(tmp_path: Path) -> None:
    torch.save({"value": 2}, tmp_path / "secret.pt")
    bundle = bundle_with(tmp_path, "$torch.load(@bundle_root + '/models/linked.pt')['value']")
    (bundle / "models" / "linked.pt").symlink_to(tmp_path / "secret.pt")
    assert "leads out of the bundle" in refused(bundle)
    (bundle / "models" / "model.pt").symlink_to(tmp_path / "secret.pt")
    weights = small.write_bundle(tmp_path / "bundle", small.spleen())
    assert "leads out of the bundle as a link does: put the file itself in its place" in refused(weights)


@pytest.mark.parametrize("macro", ["%../../secret.json::value", "%/etc/secret.json", "%../../../secret.yaml"])
def test_macros_read_files_of_the_bundle_alone(macro: str, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"value": 2}')
    assert "leads out of the bundle" in refused(bundle_with(tmp_path, macro))


def test_a_checkpoint_that_would_run_code_is_refused_unread(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bundle = bundle_with(tmp_path, "$torch.load(@bundle_root + '/models/evil.pt')['value']")
    torch.save({"value": Planted(mark)}, bundle / "models" / "evil.pt")
    assert "cannot be read as numbers alone" in refused(bundle)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("network", "argument"),
    [
        ({"_target_": "timm.create_model", "model_name": "resnet10t", "num_classes": 2}, "checkpoint_path"),
        ({"_target_": "HoVerNet", "in_channels": 3, "out_classes": 2}, "pretrained_url"),
    ],
)
def test_weights_from_elsewhere_are_left_out(network: dict[str, Any], argument: str, tmp_path: Path) -> None:
    config = small.tool()
    config["network_def"] = {**network, argument: str(tmp_path / "evil.pth")}
    imported = import_bundle(small.write_bundle(tmp_path / "bundle", config), False)
    assert argument not in imported.victim["arguments"]
    assert any(f"argument {argument} would download weights" in note for note in imported.notes)


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "builtins.exec", "scripts.networks.small.Small", "monai.bundle.run"])
def test_a_target_that_is_not_known_is_named(target: str, tmp_path: Path) -> None:
    config = small.spleen()
    config["network_def"] = {"_target_": target, "command": f"mkdir {tmp_path / 'mark'}"}
    text = refused(small.write_bundle(tmp_path / "bundle", config))
    assert f"network_def is {target}" in text
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("inference.json", "[" * 100_000, "no valid JSON"),
        ("inference.json", "[1]", "holds no configuration"),
        ("inference.yaml", "!!python/object/apply:os.system [mkdir mark]", "no valid YAML"),
        ("inference.yaml", "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)), "no valid YAML"),
        ("inference.json", "\xff", "no valid JSON"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(name: str, text: str, said: str, tmp_path: Path) -> None:
    bundle = small.write_bundle(tmp_path, {}, name=name)
    (bundle / "configs" / name).write_text(text)
    assert said in refused(bundle)


def test_nested_values_of_the_configuration_are_refused(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(700):
        deep = [deep]
    assert "nested too deeply" in refused(bundle_with(tmp_path, deep))


def test_a_folder_that_is_no_bundle_says_what_it_misses(tmp_path: Path) -> None:
    assert "no MONAI bundle" in refused(tmp_path)
    bundle = small.write_bundle(tmp_path, small.spleen())
    for name in ("other", "../metadata", "/etc/passwd"):
        with pytest.raises(SpecError, match="no such file in"):
            import_bundle(bundle, False, name)


def test_what_nobody_asks_for_may_be_odd(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    odd = {
        "run": f"$__import__('os').mkdir({str(mark)!r})",
        "a": "@b",
        "b": "@a",
        "c": "$" + "(" * 200,
        "initialize": [f"$open({str(mark)!r}, 'w')"],
    }
    found = import_bundle(bundle_with(tmp_path, 2, **odd), False)
    arguments: Any = found.victim["arguments"]
    assert arguments["out_channels"] == 2
    assert not mark.exists()


VALUES: dict[str, tuple[Any, Any]] = {
    "arithmetic": ("$(@base + 2) * 3 - 7 // 2 % 2", 17),
    "division": ("$@base / 2", 2.0),
    "power": ("$2 ** 5", 32),
    "length": ("$len(@sizes)", 3),
    "condition": ("$'a' if @base > 3 and not @off else 'b'", "a"),
    "indexing": ("$@sizes[-1] + @named['x']", 8),
    "slice": ("$@sizes[:2]", [1, 2]),
    "calls": ("$max(min(@base, 9), int('3')) + round(2.6) + abs(-1) + sum(@sizes)", 14),
    "range": ("$list(range(2, 8, 2)) + [1] * 2", [2, 4, 6, 1, 1]),
    "membership": ("$'x' in @named", True),
    "dictionary": ("${**@named, 'y': [@base]}", {"x": 5, "y": [4]}),
    "keys": ("$list(@named.keys())", ["x"]),
    "text": ("$f'{@base}-' + str(1.5)", "4-1.5"),
    "nested reference": ("@nested::1::x", 6),
    "old separator": ("@nested#0", 5),
    "relative": ("@#sizes", [1, 2, 3]),
    "macro": ("%named::x", 5),
    "file": ("%sizes.yaml::roi", [16, 16, 16]),
    "join": ("$os.path.join('a', 'b.pt')", "a/b.pt"),
    "no graphics card": ("$'cuda' if torch.cuda.is_available() else 'cpu'", "cpu"),
    "copy": ("$copy.deepcopy(@sizes)", [1, 2, 3]),
    "enumeration": ("$monai.utils.CommonKeys.IMAGE", "image"),
}


@pytest.mark.parametrize("name", VALUES)
def test_expressions_say_what_python_would(name: str, tmp_path: Path) -> None:
    text, expected = VALUES[name]
    config = {"base": 4, "off": False, "sizes": [1, 2, 3], "named": {"x": 5}, "nested": ["$@base + 1", {"x": "$@base + 2"}], "asked": text}
    configuration = Configuration(small.write_bundle(tmp_path, config), False)
    assert configuration.plain(configuration.get("asked"), "asked") == expected


def test_switched_off_parts_are_left_out(tmp_path: Path) -> None:
    part = {"_target_": "LoadImaged", "keys": "image"}
    config = {"off": True, "all": [{**part, "_disabled_": "@off"}, {**part, "_disabled_": "$not @off"}, {**part, "_disabled_": "false"}]}
    configuration = Configuration(small.write_bundle(tmp_path, config), False)
    assert [each.key for each in configuration.get("all")] == ["all::1", "all::2"]


def test_names_of_libraries_are_kept_as_names(tmp_path: Path) -> None:
    configuration = Configuration(
        small.write_bundle(tmp_path, {"imports": ["$import numpy as n"], "kind": "$n.float32", "bad": "$q.x"}), False
    )
    assert configuration.get("kind") == Symbol("numpy.float32")
    assert isinstance(configuration.get("bad"), Unreadable)
    assert imports(["$from monai.networks.nets import UNet as U", "$import os.path", "$1", 5]) == {
        "U": "monai.networks.nets.UNet",
        "os": "os",
    }


def test_relative_references_end_at_the_top() -> None:
    assert absolute("$@##x + @#y", "a::b::c") == "$@a::x + @a::b::y"
    with pytest.raises(NotReadable, match="above the top"):
        absolute("@###x", "a::b")


def test_with_trust_an_expression_is_evaluated_by_monai(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, "$sum([i for i in range(3)])")
    assert "a list that is computed" in refused(bundle)
    arguments: Any = import_bundle(bundle, True).victim["arguments"]
    assert arguments["out_channels"] == 3
    assert json.dumps(arguments)
