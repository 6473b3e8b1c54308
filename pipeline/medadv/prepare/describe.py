"""`medadv plan`: what a run would do."""

import math
from pathlib import Path

import numpy as np

from medadv.attacks.cost import fitting_passes, passes
from medadv.common.machine import default_workers
from medadv.common.progress import Progress
from medadv.common.stop import Stop
from medadv.corpus.folder import shard_name
from medadv.corpus.receipt import committed
from medadv.plan.frozen import live_lines
from medadv.prepare.estimate import seconds_to_make
from medadv.prepare.prepare import Prepared, prepare
from medadv.prepare.request import Options, asked, locate
from medadv.store.layout import perturbation_dtype
from medadv_transforms.units import LATTICES

Facts = dict[str, str | int | float | list[str] | None]
"""What `medadv plan` prints, in its order."""


def describe(spec_path: Path, options: Options, progress: Progress, stop: Stop | None = None) -> Facts:
    """What `run` would do with a spec: counts, bytes before compression, time on this machine, and what is there already."""
    spec, told = asked(spec_path, options)
    workspace = locate(spec, spec_path, options.out)
    return facts_of(prepare(spec, spec_path.resolve().parent, workspace, options, progress, stop, measure=False, told=told))


def facts_of(prepared: Prepared) -> Facts:
    """The same of what was prepared already; what is new was so when it was prepared, whether it has been frozen since or not."""
    spec, workspace = prepared.spec, prepared.workspace
    values = sum(math.prod(shard.shape) * len(shard.samples) for shard in prepared.new)
    stored = [LATTICES[prepared.settings.data.unit].dtype, *(perturbation_dtype(a.epsilon) for a in spec.attacks.values())]
    stored += [perturbation_dtype(a.epsilon) for a in spec.attacks.values() if a.warm]
    forward, backward = map(sum, zip(*(passes(a) for a in prepared.settings.attacks.values()), strict=True))
    missing = [shard for plan, shard in live_lines(prepared.plans) if committed(workspace, shard_name(shard.index), plan.hash) is None]
    execution, to_make = prepared.settings.execution, missing + prepared.new
    workers = default_workers(spec.execution.threads, execution.device) if spec.execution.workers == "auto" else spec.execution.workers
    made = spec.model_copy(update={"attacks": prepared.settings.attacks})
    fits = {name: len(samples) for name, samples in prepared.fits.items()}
    seconds = seconds_to_make(made, execution, to_make, prepared.request, prepared.survey.root, workers, fits) if to_make else 0.0
    # Once for all samples: passes of every fitted sample, before the plan is frozen.
    fitting = [(count, *fitting_passes(spec.attacks[name])) for name, count in fits.items()]
    return {
        "corpus": str(workspace.root),
        "samples": len(prepared.survey.found),
        "new_samples": sum(len(shard.samples) for shard in prepared.new),
        "new_shards": len(prepared.new),
        "shards_to_make": len(to_make),
        "quarantined": len(prepared.survey.problems) + len(prepared.gone),
        "bytes_before_compression": values * sum(np.dtype(kind).itemsize for kind in stored),
        "forward_passes_per_sample": forward,
        "backward_passes_per_sample": backward,
        **(
            {
                "fitted_samples": sum(count for count, _, _ in fitting),
                "fitting_forward_passes": sum(count * forward for count, forward, _ in fitting),
                "fitting_backward_passes": sum(count * backward for count, _, backward in fitting),
            }
            if fitting
            else {}
        ),
        "workers": workers,
        "notes": prepared.notes,
        "estimated_seconds": None if seconds is None else float(f"{seconds:.2g}"),  # a guess deserves two digits
    }
