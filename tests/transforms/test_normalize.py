"""Stored units to network input, with gradients."""

import pytest
import torch

from medadv_transforms import Normalize, Window


def test_normalize_is_torchvisions() -> None:
    from torchvision.transforms.functional import normalize

    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    levels = torch.randint(0, 256, (2, 3, 5, 4)).float()
    torch.testing.assert_close(Normalize(mean, std)(levels), normalize(levels / 255, mean, std))


def test_gradients() -> None:
    module = Normalize([0.5], [0.25]).double()
    levels = torch.rand(2, 1, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (levels * 255,))


def test_window_is_linear_inside_and_flat_outside() -> None:
    hu = torch.tensor([[-1200.0, -1000, -300, 400, 900]], requires_grad=True)
    out = Window(-1000, 400)(hu)
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.0, 0.5, 1.0, 1.0]]))
    out.sum().backward()
    assert hu.grad is not None
    torch.testing.assert_close(hu.grad[0, [0, 2, 4]], torch.tensor([0.0, 1 / 1400, 0.0]))


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="rise"):
        Window(10, 10)
    with pytest.raises(ValueError, match="channels"):
        Normalize([0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="above 0"):
        Normalize([0.5], [0.0])
