import math

import pytest
import torch
from torch import nn

from inspectd_train.net import csnet
from inspectd_train.net.csnet import (
    WIDTHS,
    CSNet,
    Size,
    cooled,
    fuse,
    gmac_per_mpixel,
    parameters,
    receptive_field_px,
)


def trained_looking(channels: int = 3, classes: int = 1, size: Size = "s", branches: bool = True) -> CSNet:
    """A net whose batch norms hold statistics, as after training."""
    torch.manual_seed(0)
    net = CSNet(channels, classes, size, branches)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
    return net.eval()


@pytest.mark.parametrize("net", WIDTHS)
@pytest.mark.parametrize("size", [(64, 64), (65, 66), (67, 97), (101, 130), (384, 512), (71, 79)])
def test_score_map_has_a_cell_for_every_pixel_of_any_size(net: Size, size: tuple[int, int]) -> None:
    coarse = CSNet(channels=1, classes=2, net=net).eval()
    with torch.no_grad():
        logits = coarse(torch.zeros(1, 1, *size))
    assert logits.shape == (1, 3, math.ceil(size[0] / coarse.stride), math.ceil(size[1] / coarse.stride))


@pytest.mark.parametrize("net", WIDTHS)
def test_fused_net_gives_the_same_logits(net: Size) -> None:
    whole, x = trained_looking(size=net), torch.randn(2, 3, 90, 75)
    with torch.no_grad():
        assert torch.allclose(whole(x), fuse(whole)(x), rtol=1e-3, atol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fuse(whole).modules())


def test_plain_convolutions_alone_after_fusing() -> None:
    kinds = {type(module) for module in fuse(CSNet(1, 1)).modules() if not list(module.children())}
    assert kinds == {nn.Conv2d}


@pytest.mark.parametrize("net", WIDTHS)
def test_documented_size_and_cost(net: Size) -> None:
    assert csnet.__doc__ is not None
    (row,) = [line for line in csnet.__doc__.splitlines() if line.startswith(f"| {net} |")]
    grey, colour = CSNet(1, 1, net), CSNet(3, 1, net)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        net,
        ", ".join(str(width) for width in WIDTHS[net]),
        f"{grey.stride} px",
        f"{receptive_field_px(grey)} px",
        f"{parameters(grey):,} / {parameters(colour):,}",
        f"{gmac_per_mpixel(grey):.2f} / {gmac_per_mpixel(colour):.2f}",
    ]


@pytest.mark.parametrize("size", ["xs", "s"])
def test_receptive_field_is_what_moves_a_cell(size: Size) -> None:
    net = fuse(CSNet(channels=1, classes=1, net=size)).double()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):  # positive throughout: no path of the signal is cut or cancelled
            module.weight.data.abs_()
            assert module.bias is not None
            module.bias.data.fill_(1.0)
    widest = 0
    for cell in range(400 // net.stride, 416 // net.stride):
        x = torch.zeros(1, 1, 804, 804, dtype=torch.double, requires_grad=True)
        (seen,) = torch.autograd.grad(net(x)[0, 1, cell, cell], x)
        rows = seen[0, 0].abs().sum(1).nonzero()
        widest = max(widest, int(rows.max() - rows.min()) + 1)
    assert widest == receptive_field_px(net)


def test_cooled_net_is_as_sure_as_its_temperature_says() -> None:
    net, x = trained_looking(channels=1, classes=2), torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = net(x)
        cooled(net, 2.5)
        assert torch.allclose(net(x), before / 2.5, rtol=1e-4, atol=1e-5)
