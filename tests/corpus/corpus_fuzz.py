"""scripts/fuzz_corpus.py as a module: what tests share with it is how a forger makes hashes anew."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_corpus.py"


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_corpus", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_corpus"] = module
    spec.loader.exec_module(module)
    return module


fuzz = _loaded()
