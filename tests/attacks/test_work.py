"""What one step costs, in counts that no machine changes: passes, operations of our own, bytes, and nothing that waits for the device."""

from collections import Counter
from typing import Any

import pytest
import torch
from tests.attacks.attack_cases import LEVEL8, classifier, images, labels, segmenter, settings
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medadv.attacks.engine import perturb
from medadv.attacks.objective import Objective
from medadv.attacks.untouched import untouched
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.loading import detector_of
from medadv.victims.sources.registry import build_network
from medadv_transforms.normalize import Normalize

WAITING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero"}
"""Operations whose result the host has to wait for."""


class Work(TorchDispatchMode):
    """Operations by name, bytes of new tensors, and convolutions that ask for weight gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.bytes = 0
        self.weight_gradients = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if func.is_view or name == "detach":
            return found
        self.operations[name] += 1
        if name == "convolution_backward":
            self.weight_gradients += any(args[-1][1:])
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)}
        made = [t for t in tree_leaves(found) if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in given]
        self.bytes += sum(t.nbytes for t in made)
        return found


def detector() -> tuple[Objective, Tensor, Any]:
    torch.manual_seed(0)
    network = build_network("torchvision:retinanet_resnet18_fpn_gn", {"num_classes": 2, "size": 64}).eval()
    victim = detector_of(Normalized(Normalize([0.5] * 3, [0.25] * 3), network), 0.5, x_first=False)
    truth = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}] * 2
    return victim, images(2, 3, 64, 64, dtype=torch.float32), truth


def case(task: str) -> tuple[Objective, Tensor, Any]:
    if task == "detection":
        return detector()
    if task == "classification":
        return classifier(), images(2, 3, 16, 16), labels(2, 4)
    return segmenter(3), images(2, 1, 8, 9, 10), labels(2, 3, 8, 9, 10)


def work(task: str, attack: str, steps: int, **changes: Any) -> Work:
    victim, batch, truth = case(task)
    with Work() as counted:
        perturb(victim, batch, truth, settings(attack, steps=steps, **changes), lattice=LEVEL8, seeds=[1, 2])
    return counted


def bare(task: str) -> Work:
    """One forward and backward of the victim's loss alone."""
    victim, batch, truth = case(task)
    x = batch.clone().requires_grad_()
    with untouched(victim.module), Work() as counted:
        torch.autograd.grad(victim.deviation(victim.forward(x), truth, settings("pgd")).sum(), x)
    return counted


TASKS = ["classification", "segmentation", "detection"]


@pytest.mark.parametrize("task", TASKS)
def test_a_step_of_pgd_adds_six_operations_and_two_images_to_the_victims_own(task: str) -> None:
    short, long, alone = work(task, "pgd", 2), work(task, "pgd", 3), bare(task)
    own = long.operations - short.operations - alone.operations
    assert own == Counter(["add", "nan_to_num", "sign_", "mul_", "add_", "clamp"])
    batch = case(task)[1]
    # The example, and the gradient made finite, whose memory the signs and the step take over.
    assert long.bytes - short.bytes - alone.bytes == 2 * batch.nbytes


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("attack", ["pgd", "smia", "mifgsm"])
def test_no_weight_gradients(task: str, attack: str) -> None:
    """Convolutions go back to their inputs alone, once a step."""
    short, long, alone = work(task, attack, 2), work(task, attack, 3), bare(task)
    assert long.weight_gradients == 0
    per_step = long.operations["convolution_backward"] - short.operations["convolution_backward"]
    assert per_step == alone.operations["convolution_backward"] > 0
    assert long.operations["convolution"] - short.operations["convolution"] == alone.operations["convolution"]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("attack", ["pgd", "smia", "mifgsm", "tifgsm"])
def test_nothing_in_the_loop_waits_for_the_device(task: str, attack: str) -> None:
    """Detectors wait in their own losses, where they look for boxes that match."""
    changes = {"gradient_kernel_size": 3} if attack == "tifgsm" else {}
    short, long = work(task, attack, 2, **changes), work(task, attack, 3, **changes)
    assert not WAITING & (long.operations - short.operations).keys()


def test_smoothing_is_a_few_passes_over_the_image() -> None:
    """No convolution with one channel, which is slow on a CPU, and no more new tensors than axes ask for."""
    pgd, smia = (work("segmentation", attack, 3).operations for attack in ("pgd", "smia"))
    assert smia["convolution"] == pgd["convolution"]
    assert smia["reflection_pad2d"] == 3 * 3
