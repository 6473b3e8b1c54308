"""What does an evaluation say? `evaluation.json`, as a typed record."""

from typing import Literal

from pydantic import Field

from medadv.common.record import Closed, Count, Sha256
from medadv.corpus.manifest import Baseline
from medadv.evaluate.binarization import Binarization
from medadv.evaluate.curve import Curve
from medadv.evaluate.flags import Flag
from medadv.evaluate.readings import ClinicalReport
from medadv.spec.attack import AttackSettings


class Found(Closed):
    """What one attack of the set found at one epsilon."""

    name: str
    tried: Count = Field(description="samples it was let loose on; a class that was wrong already was left alone")
    kept: Count = Field(description="samples whose stored perturbation is its own")
    broke: Count | None = Field(description="of these, those that are wrong with it; null for masks and boxes, never wholly wrong")


class AtEpsilon(Closed):
    """One epsilon, in stored units."""

    epsilon: float
    attack: str = Field(description="name of the ensemble in the corpus")
    wrong_when_clean: Count = Field(description="classes: samples that no attack had to touch; of masks and boxes 0")
    kept_from_smaller: Count = Field(description="samples whose perturbation is that of the epsilon before")
    unmoved: Count = Field(description="samples that no attack made worse")
    found: list[Found]
    clinical: ClinicalReport


class Evaluation(Closed):
    """`evaluation.json`. Every figure is of stored samples, read back; intervals of 95 % are over groups."""

    format: Literal["medadv-evaluation"] = "medadv-evaluation"
    format_version: Literal[1] = 1
    name: str
    task: str
    unit: str = Field(description="of epsilons: hu or level8")
    samples: Count
    groups: Count
    content_root: Sha256 = Field(description="of the corpus that every figure is read from")
    network: str
    weights_sha256: Sha256
    metric: str = Field(description="the headline among `curves`")
    curves: dict[str, Curve] = Field(description="metric -> its values over epsilon, 0 first, of the worst answers")
    baseline: Baseline | None
    members: list[AttackSettings] = Field(description="the set at the largest epsilon, in order")
    epsilons: list[AtEpsilon]
    flags: list[Flag]
    binarization: Binarization
