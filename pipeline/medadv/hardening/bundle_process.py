"""What carries out a bundle's training, in a process of its own? Its configuration with overrides, by MONAI; foreign code runs here.

python -m medadv.hardening.bundle_process JOB.json
"""

import sys
from pathlib import Path

import safetensors.torch
import torch
from monai.bundle.config_parser import ConfigParser
from monai.utils.misc import set_determinism

from medadv.common.record import Closed, parse


class Job(Closed):
    """What is to be trained."""

    bundle: str
    configuration: str
    run: str
    network: str
    overrides: dict[str, str | int]
    weights: str
    out: str
    seed: int
    threads: int


def main(job: Job) -> None:
    """Train, and write the weights of the network that was trained."""
    sys.path.insert(0, job.bundle)
    torch.set_num_threads(job.threads)
    set_determinism(job.seed)
    parser = ConfigParser()
    parser.read_config(job.configuration)
    meta = Path(job.bundle) / "configs" / "metadata.json"
    if meta.is_file():
        parser.read_meta(str(meta))
    if "bundle_root" in parser:
        parser["bundle_root"] = job.bundle
    for key, value in job.overrides.items():
        parser[key] = value
    parser.parse(True)
    if "initialize" in parser:
        parser.get_parsed_content("initialize")
    # Resolved once: the trainer that the run id names holds this one.
    network = parser.get_parsed_content(job.network)
    network.load_state_dict(safetensors.torch.load_file(job.weights))
    parser.get_parsed_content(job.run)
    if "finalize" in parser:
        parser.get_parsed_content("finalize")
    state = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(state, job.out)


if __name__ == "__main__":
    main(parse(Job, Path(sys.argv[1]).read_bytes()))
