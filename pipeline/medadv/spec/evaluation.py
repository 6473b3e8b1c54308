"""What is a model's robustness measured by? The attacks of `medadv evaluate`, of which each sample keeps the worst, and the epsilons."""

from typing import Annotated, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from medadv.spec.attack import AttackSettings
from medadv.spec.base import Settings


class EvaluationSettings(Settings):
    """What `medadv evaluate` does, where it is not what it does by itself."""

    attacks: list[dict[str, JsonValue]] | None = Field(
        None,
        min_length=1,
        max_length=32,
        description="settings of attacks without `epsilon`, in the order in which they are let loose; left out: by task, see `evaluate`",
    )
    epsilons: list[Annotated[float, Field(ge=1, le=4095)]] | None = Field(
        None, min_length=1, max_length=32, description="stored units; left out: the largest of the spec's attacks"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for number, attack in enumerate(self.attacks or ()):
            if "epsilon" in attack:
                raise ValueError(f"attacks[{number}]: the epsilon is one of `epsilons`, for every attack: leave it out")
            resolved(attack, number, 1)
        if self.epsilons is not None and len(set(self.epsilons)) != len(self.epsilons):
            raise ValueError("epsilons names one twice")
        return self


def resolved(attack: dict[str, JsonValue], number: int, epsilon: float) -> AttackSettings:
    """One of the attacks at an epsilon. ValueError where it is none, with its number among them."""
    try:
        return AttackSettings.model_validate({"keep": "best", **attack, "epsilon": epsilon})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"attacks[{number}]{'.' if key else ''}{key}: {first['msg'].removeprefix('Value error, ')}") from None
