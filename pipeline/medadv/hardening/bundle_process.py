"""What carries out a bundle's training, in a process of its own? Its configuration with overrides, by MONAI; foreign code runs here.

python -m medadv.hardening.bundle_process JOB.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from monai.bundle.config_parser import ConfigParser
from monai.utils.misc import set_determinism


def main(job: dict[str, Any]) -> None:
    """Train, and write the weights of the network that was trained.

    job: bundle, configuration, overrides (id -> value), run (id), network (id), weights (file), out (file), seed, threads.
    """
    sys.path.insert(0, job["bundle"])
    torch.set_num_threads(job["threads"])
    set_determinism(job["seed"])
    parser = ConfigParser()
    parser.read_config(job["configuration"])
    parser.read_meta(Path(job["bundle"]) / "configs" / "metadata.json") if _has_meta(job) else None
    if "bundle_root" in parser:
        parser["bundle_root"] = job["bundle"]
    for key, value in job["overrides"].items():
        parser[key] = value
    parser.parse(True)
    if "initialize" in parser:
        parser.get_parsed_content("initialize")
    # Resolved once: the trainer that the run id names holds this one.
    network = parser.get_parsed_content(job["network"])
    network.load_state_dict(safetensors.torch.load_file(job["weights"]))
    parser.get_parsed_content(job["run"])
    if "finalize" in parser:
        parser.get_parsed_content("finalize")
    state = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(state, job["out"])


def _has_meta(job: dict[str, Any]) -> bool:
    return (Path(job["bundle"]) / "configs" / "metadata.json").is_file()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
