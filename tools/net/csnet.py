"""CSNet: the coarse segmentation network, whole in this file.

Dense 3x3 convolutions with ReLU only, because they keep a CPU's and a GPU's multipliers busy and quantise
well; `fuse` folds their batch norms into them. A block that keeps the resolution may train with two more
branches, 1x1 and identity, which `fuse` folds too (Ding et al., "RepVGG: Making VGG-style ConvNets Great Again",
CVPR 2021): in the same time plain ones learned more (docs/accuracy.md), so the recipe does without.

    stride  2   stem 5x5
    stride  4   3x3 down, 1 block ----- 1x1 -----(+)-- merge block 3x3 -- 1x1 head -> K+1 logits    (s, m, xl)
    stride  8   3x3 down, 2 blocks ---- 1x1 --(+)-^x2
    stride 16   3x3 down, 3 blocks (dilation 1, 2, 4) -- 1x1 -^x2

XS ends at stride 8: no block at stride 4, no lateral there, merge block and head one step lower.

| net | widths at stride 2, 4, 8, 16 | stride | receptive field | parameters | GMAC per MPixel |
|-|-|-|-|-|-|
| xs | 16, 16, 32, 48 | 8 px | 305 px | 114,034 / 114,834 | 1.07 / 1.27 |
| s | 16, 32, 48, 64 | 4 px | 313 px | 222,258 / 223,058 | 3.04 / 3.24 |
| m | 16, 48, 64, 96 | 4 px | 313 px | 465,250 / 466,050 | 6.11 / 6.31 |
| xl | 32, 64, 128, 192 | 4 px | 313 px | 1,704,386 / 1,705,986 | 16.91 / 17.31 |

(one class; grey / colour; fused; `parameters`, `gmac_per_mpixel`, `receptive_field_px`, all checked by the
tests). Fully convolutional: an image of H x W pixels, 64 px or more, gives ceil(H/stride) x ceil(W/stride)
cells; cell (r, c) covers the pixels from row stride*r and column stride*c on.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Size = Literal["xs", "s", "m", "xl"]
WIDTHS: dict[Size, tuple[int, int, int, int]] = {
    "xs": (16, 16, 32, 48),
    "s": (16, 32, 48, 64),
    "m": (16, 48, 64, 96),
    "xl": (32, 64, 128, 192),
}
"""The channels at strides 2, 4, 8 and 16: multiples of 16, which vector units of CPUs and GPUs take at once."""


def normalise(image: Tensor) -> Tensor:
    """Maps grey levels 0..255 of any float tensor to -1.99..1.99; the deployed graph does the same.

    Every result is exact in bfloat16, so an engine that computes in it loses nothing here.
    """
    return (image - 127.5) * (1.0 / 64.0)


class Block(nn.Module):
    """A 3x3 convolution, batch norm and ReLU; one plain convolution and ReLU after `fuse`.

    `size` is the kernel's side (5 in the stem). The padding keeps ceil(H/step) cells for any H. `branches`:
    whether a block that keeps the resolution trains with 1x1 and identity branches beside.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, step: int = 1, dilation: int = 1, branches: bool = False
    ) -> None:
        super().__init__()
        self.dense: nn.Module = nn.Sequential(
            nn.Conv2d(inputs, outputs, size, step, dilation * (size // 2), dilation, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.point: nn.Module | None = None
        self.same: nn.Module | None = None
        if branches and step == 1:
            self.point = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
            self.same = nn.BatchNorm2d(outputs) if inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, inputs, H, W] to [B, outputs, ceil(H/step), ceil(W/step)], float."""
        y: Tensor = self.dense(x)
        if self.point is not None:
            y += self.point(x)
        if self.same is not None:
            y += self.same(x)
        return functional.relu(y, inplace=True)  # in place all three: memory is what training waits for


class CSNet(nn.Module):
    """The network: normalised images [B, channels, H, W] to logits [B, 1 + classes, h, w], h = ceil(H/stride).

    Logit 0 is the background. `channels` is 1 or 3; `net` names the size. `branches` trains as RepVGG
    (for the ablation; the fused network is the same).
    """

    def __init__(self, channels: int, classes: int, net: Size = "s", branches: bool = False) -> None:
        super().__init__()
        self.channels, self.classes, self.net, self.stride = channels, classes, net, 8 if net == "xs" else 4
        a, b, c, d = WIDTHS[net]
        coarse = self.stride == 8

        def block(inputs: int, outputs: int, step: int = 1, dilation: int = 1) -> Block:
            return Block(inputs, outputs, step=step, dilation=dilation, branches=branches)

        self.stem = Block(channels, a, size=5, step=2)
        self.stride4 = nn.Sequential(block(a, b, step=2), *([] if coarse else [block(b, b)]))
        self.stride8 = nn.Sequential(block(b, c, step=2), block(c, c), block(c, c))
        self.stride16 = nn.Sequential(
            block(c, d, step=2), block(d, d), block(d, d, dilation=2), block(d, d, dilation=4)
        )
        merged = c if coarse else b
        self.lateral4 = None if coarse else nn.Conv2d(b, merged, 1)
        self.lateral8, self.lateral16 = (nn.Conv2d(n, merged, 1) for n in (c, d))
        self.merge = block(merged, merged)
        self.head = nn.Conv2d(merged, 1 + classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images to logits; see the class."""
        x4 = self.stride4(self.stem(image))
        x8 = self.stride8(x4)
        x16 = self.stride16(x8)
        y = self.lateral8(x8) + _twice(self.lateral16(x16), x8)
        if self.lateral4 is not None:
            y = self.lateral4(x4) + _twice(y, x4)
        logits: Tensor = self.head(self.merge(y))
        return logits


def _twice(coarse: Tensor, like: Tensor) -> Tensor:
    """Upsamples `coarse` by 2, nearest, and cuts it to `like` (odd sizes leave one row or column over)."""
    doubled = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
    return doubled[:, :, : like.shape[2], : like.shape[3]]


def fuse(net: CSNet) -> CSNet:
    """Copies a net to deploy it: every block one plain convolution, same outputs in eval mode, up to rounding."""
    fused = copy.deepcopy(net).eval()
    for module in fused.modules():
        if isinstance(module, Block) and isinstance(module.dense, nn.Sequential):
            module.dense = _one_convolution(module)
            module.point = module.same = None
    return fused


def _one_convolution(block: Block) -> nn.Conv2d:
    """Sums the three branches of a block in eval mode to one convolution, in double precision."""
    dense, norm = block.dense[0], block.dense[1]  # type: ignore[index]
    middle = dense.kernel_size[0] // 2
    scale, shift = _affine(norm)
    weight = dense.weight.double() * scale[:, None, None, None]
    if block.point is not None:
        point, point_norm = block.point[0], block.point[1]  # type: ignore[index]
        scale, more = _affine(point_norm)
        weight[:, :, middle, middle] += point.weight.double()[:, :, 0, 0] * scale[:, None]
        shift = shift + more
    if block.same is not None:
        scale, more = _affine(block.same)
        weight[:, :, middle, middle] += torch.diag(scale)
        shift = shift + more
    plain = nn.Conv2d(
        dense.in_channels, dense.out_channels, dense.kernel_size, dense.stride, dense.padding, dense.dilation
    )
    plain.weight.data, plain.bias.data = weight.detach().float(), shift.detach().float()  # type: ignore[union-attr]
    return plain


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The scale and shift per channel of a batch norm in eval mode, double."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def cooled(net: CSNet, temperature: float) -> None:
    """Divides the logits by the temperature for good: the head is linear, so its weights carry it."""
    net.head.weight.data /= temperature
    net.head.bias.data /= temperature  # type: ignore[union-attr]


def parameters(net: CSNet) -> int:
    """The number of parameters of the fused network."""
    return sum(p.numel() for p in fuse(net).parameters())


def gmac_per_mpixel(net: CSNet) -> float:
    """The billions of multiply-accumulates per million input pixels of the fused network's convolutions."""
    fused, side_px, macs = fuse(net), 256, 0

    def count(module: nn.Module, _: object, y: Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d)
        macs += y.shape[2] * y.shape[3] * module.weight.numel()

    for module in fused.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        fused(torch.zeros(1, net.channels, side_px, side_px))
    return macs / side_px**2 / 1e3


def receptive_field_px(net: CSNet) -> int:
    """The side of the square of input pixels that can move one cell: along the deepest way, through stride 16.

    Each convolution adds dilation * (size - 1) of its input's pixels. A nearest upsampling reads one cell
    of its input, so the merge block, which looks one cell around, may add the next coarse cell: 16 px a side.
    """
    field, jump = 1, 1
    for stage in (nn.Sequential(net.stem), net.stride4, net.stride8, net.stride16):
        for block in stage:
            assert isinstance(block, Block)
            dense = block.dense[0] if isinstance(block.dense, nn.Sequential) else block.dense
            assert isinstance(dense, nn.Conv2d)
            field += dense.dilation[0] * (dense.kernel_size[0] - 1) * jump
            jump *= dense.stride[0]
    return field + jump
