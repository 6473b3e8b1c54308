"""Programs that would do more than compute are refused before torch opens them, whatever they hide it in; --trust-code opens them."""

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.victims.test_programs import network, save, victim_settings
from torch import Tensor, nn

from medadv.common.errors import SpecError
from medadv.victims.loading import VictimRequest
from medadv.victims.sources import operators, torchscript

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
CPU = torch.device("cpu")
Change = Callable[[dict[str, bytes]], None]


class Planted:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def load(path: Path, *, trust_code: bool = False) -> None:
    VictimRequest(victim_settings(path.name), "classification", path.parent, trust_code).load(CPU, (3, 8, 8))


def rewrite(path: Path, change: Change) -> None:
    """Rewrite the records of an archive."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(records)).partition("/")[0]
    inner = {name.partition("/")[2]: data for name, data in records.items()}
    change(inner)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in inner.items():
            archive.writestr(f"{folder}/{name}", data)


def edit_json(records: dict[str, bytes], name: str, edit: Callable[[Any], None]) -> None:
    value = json.loads(records[name])
    edit(value)
    records[name] = json.dumps(value).encode()


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("exported") / "victim.pt2"
    save(path)
    return path.read_bytes()


@pytest.fixture
def victim(exported: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "victim.pt2"
    path.write_bytes(exported)
    return path


MODEL, WEIGHTS, CONSTANTS = "models/model.json", "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


def sample_inputs(records: dict[str, bytes], mark: Path) -> None:
    records["data/sample_inputs/model.pt"] = saved((Planted(mark),))


def weight(records: dict[str, bytes], mark: Path) -> None:
    edit_json(records, WEIGHTS, lambda config: config["config"]["0.bias"].update(use_pickle=True))
    records["data/weights/weight_1"] = saved(Planted(mark))


def legacy_weights(records: dict[str, bytes], mark: Path) -> None:
    records["data/weights/model.pt"] = saved(Planted(mark))


def constant(prefix: str) -> Callable[[dict[str, bytes], Path], None]:
    def plant(records: dict[str, bytes], mark: Path) -> None:
        entry = {"path_name": f"{prefix}_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        edit_json(records, CONSTANTS, lambda config: config["config"].update(c=entry))
        records[f"data/constants/{prefix}_0"] = saved(Planted(mark)) if prefix == "tensor" else pickle.dumps(Planted(mark))

    return plant


def size_expression(records: dict[str, bytes], mark: Path) -> None:
    def edit(model: Any) -> None:
        size = model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0]["as_expr"]
        size["expr_str"] = f"__import__('os').mkdir({str(mark)!r})"

    edit_json(records, MODEL, edit)


PICKLES = {
    "sample inputs": sample_inputs,
    "weight": weight,
    "weights of old": legacy_weights,
    "constant tensor": constant("tensor"),
    "constant object": constant("opaque_obj"),
    "size": size_expression,
}


@pytest.mark.parametrize("where", PICKLES)
def test_an_exported_program_runs_nothing_that_it_hides(victim: Path, tmp_path: Path, where: str) -> None:
    mark = tmp_path / "mark"
    rewrite(victim, lambda records: PICKLES[where](records, mark))
    with pytest.raises(SpecError, match=r"may do more than compute .*--trust-code"):
        load(victim)
    assert not mark.exists()
    with pytest.raises(SpecError, match="neither TorchScript nor an exported program"):
        load(victim, trust_code=True)  # the victim is broken, and by now the mark is made: it was an attack
    assert mark.exists()


def test_guards_of_an_exported_program_are_not_run(victim: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    guard = f"__import__('os').mkdir({str(mark)!r}) is None"
    rewrite(victim, lambda records: edit_json(records, MODEL, lambda model: model.update(guards_code=[guard])))
    load(victim)
    assert not mark.exists()


def model_edit(edit: Callable[[Any], None]) -> Change:
    return lambda records: edit_json(records, MODEL, lambda model: edit(model["graph_module"]))


ENUM = json.dumps({"type": "collections.namedtuple", "context": json.dumps({"__enum__": 1, "fqn": "this:c"}), "children_spec": []})


def subgraph(module: Any) -> None:
    graph = {"graph": {"nodes": []}, "name": "true_graph_0"}
    module["graph"]["nodes"][2]["inputs"].append({"name": "", "arg": {"as_graph": graph}, "kind": 1})


GRAPHS: dict[str, Change] = {
    "custom operator": model_edit(lambda module: module["graph"]["nodes"][2].update(target="torch.ops.mine.silu.default")),
    "higher-order operator": model_edit(lambda module: module["graph"]["nodes"][2].update(target="torch.ops.higher_order.cond")),
    "a graph as an argument": model_edit(subgraph),
    "a function of Python": model_edit(lambda module: module["graph"]["nodes"][2].update(target="torch.os.system")),
    "an operator on files": model_edit(lambda module: module["graph"]["nodes"][2].update(target="torch.ops.aten.from_file.default")),
    "code as a name": model_edit(lambda module: module["graph"]["nodes"][2].update(name="x = exit() or x")),
    "an import": model_edit(lambda module: module["module_call_graph"][0]["signature"].update(in_spec=f"[1, {ENUM}]")),
    "a power": model_edit(lambda module: module["graph"]["tensor_values"]["input"]["sizes"][0]["as_expr"].update(expr_str="9**9**9**9")),
    "compiled code": lambda records: records.update({"data/aotinductor/model/x.so": b"\x7fELF"}),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_an_exported_program_of_other_than_known_operators_is_refused(victim: Path, what: str) -> None:
    rewrite(victim, GRAPHS[what])
    with pytest.raises(SpecError, match=r"may do more than compute .*--trust-code"):
        load(victim)


def test_a_record_that_two_readers_may_read_differently_is_refused(victim: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(victim, "a") as archive:
        archive.writestr(archive.namelist()[0], b"other")
    with pytest.raises(SpecError, match="a record stands twice"):
        load(victim)


class Writes(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, self.path)
        return x.mean((2, 3))[:, :2]


class Maps(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))[:, :2] + torch.from_file(self.path, False, 2)


class WakesUp(nn.Module):
    """Writes while it is loaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> str:
        return self.path

    @torch.jit.export
    def __setstate__(self, state: str) -> None:
        self.path = state
        self.training = False
        torch.save(torch.zeros(1), state)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))[:, :2]


@pytest.mark.parametrize(("kind", "operator"), [(Writes, "save"), (Maps, "from_file"), (WakesUp, "save")])
def test_torchscript_touches_no_files(tmp_path: Path, kind: Callable[[str], nn.Module], operator: str) -> None:
    mark = tmp_path / "mark"
    torch.jit.script(kind(str(mark))).save(str(tmp_path / "victim.ts"))
    with pytest.raises(SpecError, match=f"may do more than compute .*aten::{operator}.*--trust-code"):
        load(tmp_path / "victim.ts")
    assert not mark.exists()
    if operator == "save":
        # The victims answer images whose gradient does not matter here: that they were loaded shows by what they left.
        load(tmp_path / "victim.ts", trust_code=True)
        assert mark.exists()


CODE = {
    "method": "x.save('mark')",
    "behind getattr": "getattr(x, 'save')('mark')",
    "another name": "t = torch\n    t.save(x, 'mark')",
    "hidden": "torch = x\n    torch.save('mark')",
    "other operators": "ops.mine.silu(x)",
    "classes": "__torch__.torch.classes.mine.Thing(x)",
    "print": "print('\\\\x1b]0;mine')",
    "fork": "f = fork\n    f(x)",
    "import": "import os",
    "lambda": "(lambda: x)()",
    "computed name": "getattr(x, 'sa' + 've')('mark')",
    "inside an argument": "torch.relu(torch.relu(x.save('mark')))",
    "default": "return x\n  def other(self: __torch__.Mine, x: int=ops.mine.f()) -> int:\n    pass",
}


@pytest.mark.parametrize("how", CODE)
def test_no_spelling_of_an_operator_gets_by(how: str) -> None:
    head = "class Mine(Module):\n  __parameters__ = []\n  def forward(self: __torch__.Mine, x: Tensor) -> Tensor:\n"
    with pytest.raises(torchscript.NotComputing):
        torchscript._printed(f"{head}    {CODE[how]}\n    return x\n".encode())
    # What stands around it is no reason to refuse it.
    plain = CODE[how].replace("ops.mine.f()", "1") if how == "default" else "torch.relu(x)"
    assert torchscript._printed(f"{head}    {plain}\n    return x\n".encode())


def test_objects_name_only_types_of_the_archive_and_storages_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "victim.ts"
    save(path)
    good = path.read_bytes()

    def short(records: dict[str, bytes]) -> None:
        records["data/0"] = records["data/0"][:-4]

    def foreign(records: dict[str, bytes]) -> None:
        # A class that the process traced before has a number behind its name.
        name = rb"__torch__\.torch\.nn\.modules\.linear[\w.]*\n"
        records["data.pkl"] = re.sub(name, b"__torch__.torch.classes.mine.aaaa\n", records["data.pkl"])

    for change, said in ((short, "larger than its record"), (foreign, "torch.classes")):
        path.write_bytes(good)
        rewrite(path, change)
        with pytest.raises(SpecError, match=said):
            load(path)


def test_what_is_on_the_list_is_an_operator() -> None:
    there = {schema.name for schema in torch._C._jit_get_all_schemas()}
    unknown = {name for name in operators.ATEN if not {f"aten::{name}", f"aten::{name}_"} & there}
    # Operators of later torch than the oldest supported one may be missing there, none may be here.
    assert unknown <= {"is_grad_enabled"} | NEWER
    assert not operators.computes("save")
    assert not operators.computes("from_file")
    assert operators.computes("relu_")
    assert not operators.computes("set_")


NEWER = {"_upsample_lanczos2d_aa"}


def test_a_network_is_what_it_was(tmp_path: Path) -> None:
    save(tmp_path / "victim.ts")
    image = torch.arange(3 * 8 * 8.0).reshape(1, 3, 8, 8)
    victim = VictimRequest(victim_settings("victim.ts"), "classification", tmp_path).load(CPU, (3, 8, 8))
    with torch.no_grad():
        assert torch.equal(victim.scored.module.network(image), network()(image))
