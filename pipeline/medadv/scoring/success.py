"""When has an attack worked on a sample? The rule, as it is stored beside every attack."""

from medadv.common.record import Closed


class SuccessRule(Closed):
    """By what metric, past what threshold; only what the rule uses is stored."""

    metric: str
    condition: str
    threshold: float | None = None
    iou: float | None = None
    score_threshold: float | None = None
    drop: float | None = None
    share: float | None = None
    index: int | None = None
