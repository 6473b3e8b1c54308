"""Make the golden corpora with this checkout and with an earlier commit, and compare them (see scripts/golden)."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))
from tests.golden.corpora import SPECS, frozen_facts, write_case  # noqa: E402

EXPECTED = HERE / "tests" / "golden" / "golden.json"
# Times, versions and commit, and what follows from them: group hashes have a key of their own in every corpus, and stand in the files.
PASSING = ("run", "environment", "tool", "sha256", "receipt_sha256", "files", "bytes", "extents", "group_key_id", "group", "group_id")


def medadv(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a checkout's own command line."""
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'pipeline'}:{tree / 'transforms'}", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-m", "medadv", *arguments], capture_output=True, text=True, env=environment, cwd=tree, check=False
    )


def must(tree: Path, *arguments: str) -> str:
    """The same, which has to end with 0."""
    done = medadv(tree, *arguments)
    if done.returncode:
        raise SystemExit(f"{tree.name}: medadv {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def content(corpus: Path) -> dict[str, Any]:
    """Everything that the other side must have equal: plan, receipts and manifest without times, versions, commit and file hashes."""

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stripped(part) for key, part in value.items() if key not in PASSING}
        return [stripped(part) for part in value] if isinstance(value, list) else value

    receipts = {path.name: stripped(json.loads(path.read_bytes())) for path in sorted((corpus / "shards").glob("*.json"))}
    plans = {
        str(path.relative_to(corpus)): [stripped(json.loads(line)) for line in path.read_bytes().splitlines()]
        for path in sorted((corpus / ".medadv" / "plans").rglob("shards.jsonl"))
    }
    heads = {
        str(path.relative_to(corpus)): {key: json.loads(path.read_bytes())[key] for key in ("hash", "settings", "samples", "shards")}
        for path in sorted((corpus / ".medadv" / "plans").rglob("plan.json"))
    }
    return {
        "receipts": receipts,
        "plans": plans,
        "heads": heads,
        "manifest": stripped(json.loads((corpus / "manifest.json").read_bytes())),
        "quarantine": (corpus / "quarantine.jsonl").read_text(),
        "shard files": sorted(path.name for path in (corpus / "shards").iterdir()),
    }


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two values differ, spelt out."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for key in sorted({*old, *new}) for line in differences(old.get(key), new.get(key), f"{path}/{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [line for i, pair in enumerate(zip(old, new, strict=True)) for line in differences(*pair, f"{path}[{i}]")]
    return [] if old == new else [f"{path}: {json.dumps(old)[:120]} -> {json.dumps(new)[:120]}"]


def compare(reference: str) -> int:
    """Exit code: 0 when both sides are equal and understand each other."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        folder, old = Path(work), Path(work, "reference")
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(old), reference], cwd=HERE, check=True)
        try:
            trees = {"old": old, "new": HERE}
            for task in SPECS:
                spec = write_case(task, folder / task)
                corpora = {name: folder / task / name for name in trees}
                for name, tree in trees.items():
                    must(tree, "run", str(spec), "--out", str(corpora[name]))
                lines = differences(*(content(corpora[name]) for name in trees))
                found += [f"{task}: {line}" for line in lines]
                roots = {name: json.loads((corpora[name] / "manifest.json").read_bytes())["content_root"] for name in trees}
                print(f"{task}: content roots {roots['old'][:16]} {roots['new'][:16]}: {'equal' if not lines else 'DIFFERENT'}")
                for name, other in (("old", HERE), ("new", old)):
                    found += [f"{task}: {line}" for line in understood(other, spec, corpora[name], name)]
                shutil.rmtree(folder / task)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=HERE, check=True)
    for line in found:
        print(line)
    print("equal" if not found else f"{len(found)} differences")
    return 1 if found else 0


def understood(other: Path, spec: Path, corpus: Path, name: str) -> list[str]:
    """What the other side cannot do with a corpus that it did not make: verify it, resume it with nothing new, reproduce it."""
    before = {path: path.read_bytes() for path in sorted(corpus.rglob("*")) if path.is_file() and ".medadv" not in path.parts}
    done = {
        "verify": medadv(other, "verify", str(corpus), "--deep"),
        "resume": medadv(other, "run", str(spec), "--out", str(corpus), "--json"),
        "reproduce": medadv(other, "reproduce", str(corpus), "--all", "--json"),
    }
    failed = {verb: d for verb, d in done.items() if d.returncode}
    lines = [f"{verb} of the {name} side's corpus ended with {d.returncode}: {d.stderr.strip()}" for verb, d in failed.items()]
    if not done["resume"].returncode and json.loads(done["resume"].stdout)["new_shards"]:
        lines.append(f"resuming the {name} side's corpus made new shards")
    if not done["reproduce"].returncode and not json.loads(done["reproduce"].stdout)["equal"]:
        lines.append(f"the {name} side's corpus is not reproduced bit for bit")
    after = {path: path.read_bytes() for path in sorted(corpus.rglob("*")) if path.is_file() and ".medadv" not in path.parts}
    changed = [str(path.relative_to(corpus)) for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    if changed:
        lines.append(f"resuming the {name} side's corpus changed {', '.join(changed)}")
    print(f"  {name} side's corpus: verify --deep, resume, reproduce by the other: {'as they should' if not lines else 'WRONG'}")
    return lines


def write() -> int:
    """Write golden.json anew, from this checkout."""
    with tempfile.TemporaryDirectory() as work:
        facts = {}
        for task in SPECS:
            spec = write_case(task, Path(work, task))
            must(HERE, "run", str(spec))
            facts[task] = frozen_facts(Path(work, task, "corpus"))
    EXPECTED.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference", nargs="?", help="commit to compare with")
    parser.add_argument("--write", action="store_true", help="write tests/golden/golden.json anew")
    options = parser.parse_args()
    if options.write == bool(options.reference):
        parser.error("give a commit, or --write")
    sys.exit(write() if options.write else compare(options.reference))
