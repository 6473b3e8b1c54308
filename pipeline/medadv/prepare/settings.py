"""The settings that decide bits, resolved: frozen into the plan, published in the manifest, compared on every later run."""

from collections.abc import Mapping

import torch

from medadv.common.errors import SpecError
from medadv.common.record import Json
from medadv.datasets.masks import White
from medadv.plan.meaning import MEANING_VERSION
from medadv.plan.plan_settings import PlanSettings
from medadv.spec.data import DataSettings, numbered
from medadv.spec.run_spec import RunSpec
from medadv.spec.victim import VictimSettings
from medadv.victims.victim import Identity, Victim


def resolve_device(wanted: str) -> str:
    """cpu or cuda; `auto` takes a GPU where torch sees one."""
    seen = torch.cuda.is_available()
    if wanted == "cuda" and not seen:
        raise SpecError("execution.device=cuda, but torch sees no GPU here; use device: cpu or run `medadv doctor`")
    return "cuda" if seen and wanted != "cpu" else "cpu"


def frozen_settings(
    spec: RunSpec,
    identity: Identity,
    unit: str,
    classes: list[str] | None,
    mask_255: White | None = None,
    named: Mapping[str, Victim] | None = None,
) -> PlanSettings:
    """Everything public that the content follows from, apart from the samples themselves. No paths.

    identity: what makes the victim the one it is, as its loader tells it (hashes of weights and program).
    mask_255: what 255 means in mask pictures, where the labels depend on it.
    named: all victims by name, where there are several.
    """
    execution = spec.execution.model_dump(mode="json", exclude={"workers", "device", "memory_gib"})
    labels = spec.data.model_dump(mode="json", include={"threshold", "mask_geometry", "offset", "strata"})
    resolved = {
        "meaning": MEANING_VERSION,
        "name": spec.name,
        "data": {
            "modality": spec.data.modality,
            "task": spec.data.task,
            "unit": unit,
            "label": "prediction" if spec.data.unlabelled else "given",
            "label_map": spec.data.label_map,
            "classes": _numbered(spec.data) if classes is None else classes,
            "licence": spec.data.licence,
            "split": spec.data.split.use if spec.data.split else None,
            # Keys that came later stand here only where they say something.
            **labels,
            **({} if mask_255 is None else {"mask_255": mask_255}),
        },
        "preprocess": spec.preprocess.model_dump(mode="json", by_alias=True),
        "victim": _facts(spec.victim, identity),
        **({"victims": {name: _facts(spec.victims[name], each.identity) for name, each in named.items()}} if named else {}),
        "attacks": dict(spec.attacks),
        # What `auto` stands for is put in by whoever measures it.
        "execution": {**execution, "batch_size": spec.execution.batch, "device": resolve_device(spec.execution.device)},
    }
    return PlanSettings.model_validate(resolved)


def _facts(settings: VictimSettings, identity: Identity) -> dict[str, Json]:
    network = settings.network if identity.program_sha256 is None else "program"
    return {"network": network, **settings.model_dump(mode="json", exclude={"weights", "network", "code"}), **identity.facts()}


def _numbered(data: DataSettings) -> list[str] | None:
    """Names of a label map's classes where its keys, which are published in alphabetical order, do not tell how they are numbered."""
    names = numbered(data.label_map or {})
    return None if names == sorted(names) else names
