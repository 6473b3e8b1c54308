"""What lies around a network? Wrappers of one, and members that answer together; and the networks inside all of it."""

from collections.abc import Sequence

from torch import Tensor, nn


class Around(nn.Module):
    """Something around one network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


class Members(nn.Module):
    """Several networks that answer as one: the mean of their logits."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        total: Tensor = self.members[0](images)
        for member in self.members[1:]:
            total = total + member(images)
        return total / len(self.members)


def networks(module: nn.Module) -> list[nn.Module]:
    """The networks themselves, one a member, without all that lies around them."""
    if isinstance(module, Members):
        return [inner for member in module.members for inner in networks(member)]
    return networks(module.network) if isinstance(module, Around) else [module]
