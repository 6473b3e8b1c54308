"""scripts/fuzz_corpus.py as a module: what tests share with it is how a forger makes hashes anew."""

from tests.conftest import load_script

fuzz = load_script("fuzz_corpus.py")
