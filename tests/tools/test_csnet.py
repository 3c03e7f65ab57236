import math

import pytest
import torch
from torch import nn

from tools.csnet import RECEPTIVE_FIELD_PX, CSNet, fuse, gmac_per_mpixel, parameters


def trained_looking(channels: int = 3, classes: int = 1) -> CSNet:
    """A net whose batch norms hold statistics, as after training."""
    torch.manual_seed(0)
    net = CSNet(channels, classes)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
    return net.eval()


@pytest.mark.parametrize("size", [(64, 64), (65, 66), (67, 97), (101, 130), (384, 512), (71, 79)])
def test_score_map_has_a_cell_for_every_pixel_of_any_size(size: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = trained_looking(channels=1, classes=2)(torch.zeros(1, 1, *size))
    assert logits.shape == (1, 3, math.ceil(size[0] / 4), math.ceil(size[1] / 4))


def test_fused_net_gives_the_same_logits() -> None:
    net, x = trained_looking(), torch.randn(2, 3, 90, 75)
    with torch.no_grad():
        assert torch.allclose(net(x), fuse(net)(x), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fuse(net).modules())


def test_documented_size_and_cost() -> None:
    net = CSNet(channels=3, classes=1)
    assert parameters(net) == 223_058
    assert gmac_per_mpixel(net) == pytest.approx(3.244, abs=0.001)


def test_documented_receptive_field() -> None:
    net = fuse(CSNet(channels=1, classes=1)).double()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):  # positive throughout: no path of the signal is cut or cancelled
            module.weight.data.abs_()
            assert module.bias is not None
            module.bias.data.fill_(1.0)
    widest = 0
    for cell in range(100, 104):
        x = torch.zeros(1, 1, 804, 804, dtype=torch.double, requires_grad=True)
        (seen,) = torch.autograd.grad(net(x)[0, 1, cell, cell], x)
        rows = seen[0, 0].abs().sum(1).nonzero()
        widest = max(widest, int(rows.max() - rows.min()) + 1)
    assert widest == RECEPTIVE_FIELD_PX
