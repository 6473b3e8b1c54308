"""A victim is left as it was found, and so is everything else that an attack sets."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from medadv.attacks.untouched import untouched

CUDNN, MATMUL = torch.backends.cudnn, torch.backends.cuda.matmul


def flags() -> tuple[bool, bool, bool, bool]:
    return CUDNN.deterministic, CUDNN.benchmark, CUDNN.allow_tf32, MATMUL.allow_tf32


@pytest.fixture
def others() -> Iterator[tuple[bool, bool, bool, bool]]:
    """The flags as torch's users set them for speed."""
    before = flags()
    CUDNN.deterministic, CUDNN.benchmark, CUDNN.allow_tf32, MATMUL.allow_tf32 = False, True, True, True
    yield flags()
    CUDNN.deterministic, CUDNN.benchmark, CUDNN.allow_tf32, MATMUL.allow_tf32 = before


def test_a_gpu_computes_fp32_and_the_same_each_time_while_it_lasts(others: tuple[bool, bool, bool, bool]) -> None:
    assert others == (False, True, True, True)
    with untouched(nn.Linear(2, 2)):
        assert flags() == (True, False, False, False)
    assert flags() == others
    with pytest.raises(ValueError, match="inside"), untouched(nn.Linear(2, 2)):
        raise ValueError("inside")
    assert flags() == others


def test_modes_and_gradients_are_put_back() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network[1].eval()
    network[0].weight.requires_grad_(False)
    with untouched(network):
        assert not any(part.training for part in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert [part.training for part in network.modules()] == [True, True, False]
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, True, True, True]
