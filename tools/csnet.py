"""CSNet: the coarse segmentation network, whole in this file.

Dense 3x3 convolutions with ReLU only, because they keep a CPU's and a GPU's multipliers busy and quantise
well. While training, a block that keeps the resolution has up to three branches (3x3, 1x1, identity, each
with batch norm); `fuse` folds them into one plain convolution (Ding et al., "RepVGG: Making VGG-style
ConvNets Great Again", CVPR 2021). Blocks that halve it have one branch: the others doubled the training time.

    stride  2   stem 5x5
    stride  4   3x3 down, 1 block ----- 1x1 -----(+)-- merge block 3x3 -- 1x1 head -> K+1 logits
    stride  8   3x3 down, 2 blocks ---- 1x1 --(+)-^x2
    stride 16   3x3 down, 3 blocks (dilation 1, 2, 4) -- 1x1 -^x2

CSNet-S (widths 16, 32, 48, 64), colour, one class: 0.22 M parameters, 3.2 GMAC per megapixel, stride 4,
receptive field 313 px (`parameters`, `gmac_per_mpixel` and `RECEPTIVE_FIELD_PX`; the tests check all three).
Fully convolutional: an image of H x W pixels, 64 px or more, gives ceil(H/4) x ceil(W/4) cells; cell (r, c)
covers the pixels from row 4r and column 4c on.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE_PX = 4
RECEPTIVE_FIELD_PX = 313
WIDTHS_S = (16, 32, 48, 64)


def normalise(image: Tensor) -> Tensor:
    """Grey levels 0..255 of any float tensor to -1.99..1.99; the deployed graph does the same.

    Every result is exact in bfloat16, so an engine that computes in it loses nothing here.
    """
    return (image - 127.5) * (1.0 / 64.0)


class Block(nn.Module):
    """3x3 convolution, batch norm and ReLU; one plain convolution and ReLU after `fuse`.

    `size` is the kernel's side (5 in the stem). The padding keeps ceil(H/step) cells for any H.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, step: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.dense: nn.Module = nn.Sequential(
            nn.Conv2d(inputs, outputs, size, step, dilation * (size // 2), dilation, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.point: nn.Module | None = None
        self.same: nn.Module | None = None
        if step == 1:
            self.point = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
            self.same = nn.BatchNorm2d(outputs) if inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, ceil(H/step), ceil(W/step)], float."""
        y: Tensor = self.dense(x)
        if self.point is not None:
            y = y + self.point(x)
        if self.same is not None:
            y = y + self.same(x)
        return functional.relu(y)


class CSNet(nn.Module):
    """The network: normalised images [B, channels, H, W] to logits [B, 1 + classes, ceil(H/4), ceil(W/4)].

    Logit 0 is the background. `channels` is 1 or 3; `widths` (multiples of 16) are those of strides 2, 4, 8
    and 16.
    """

    def __init__(self, channels: int, classes: int, widths: tuple[int, int, int, int] = WIDTHS_S) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = Block(channels, a, size=5, step=2)
        self.stride4 = nn.Sequential(Block(a, b, step=2), Block(b, b))
        self.stride8 = nn.Sequential(Block(b, c, step=2), Block(c, c), Block(c, c))
        self.stride16 = nn.Sequential(
            Block(c, d, step=2), Block(d, d), Block(d, d, dilation=2), Block(d, d, dilation=4)
        )
        self.lateral4, self.lateral8, self.lateral16 = (nn.Conv2d(n, b, 1) for n in (b, c, d))
        self.merge = Block(b, b)
        self.head = nn.Conv2d(b, 1 + classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        x4 = self.stride4(self.stem(image))
        x8 = self.stride8(x4)
        x16 = self.stride16(x8)
        y8 = self.lateral8(x8) + _twice(self.lateral16(x16), x8)
        y4 = self.lateral4(x4) + _twice(y8, x4)
        logits: Tensor = self.head(self.merge(y4))
        return logits


def _twice(coarse: Tensor, like: Tensor) -> Tensor:
    """`coarse` upsampled by 2, nearest, cut to the size of `like` (odd sizes leave one row or column over)."""
    doubled = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
    return doubled[:, :, : like.shape[2], : like.shape[3]]


def fuse(net: CSNet) -> CSNet:
    """A copy for deployment: every block one plain convolution, same outputs in eval mode (float rounding)."""
    fused = copy.deepcopy(net).eval()
    for module in fused.modules():
        if isinstance(module, Block) and isinstance(module.dense, nn.Sequential):
            module.dense = _one_convolution(module)
            module.point = module.same = None
    return fused


def _one_convolution(block: Block) -> nn.Conv2d:
    """The three branches of a block in eval mode as one convolution, summed in double precision."""
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
    """Scale and shift per channel of a batch norm in eval mode, double."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def parameters(net: CSNet) -> int:
    """Parameters of the fused network."""
    return sum(p.numel() for p in fuse(net).parameters())


def gmac_per_mpixel(net: CSNet) -> float:
    """Billions of multiply-accumulates per million input pixels of the fused network, convolutions only."""
    fused, side_px, macs = fuse(net), 256, 0

    def count(module: nn.Module, _: object, y: Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d)
        macs += y.shape[2] * y.shape[3] * module.weight.numel()

    for module in fused.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    channels = fused.stem.dense.in_channels
    assert isinstance(channels, int)
    with torch.no_grad():
        fused(torch.zeros(1, channels, side_px, side_px))
    return macs / side_px**2 / 1e3
