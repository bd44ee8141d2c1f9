"""Operators on images and boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def rgb_to_ycbcr(image: Tensor) -> Tensor:
    """Red, green and blue to luma and the two colour differences, full range.

    ``image``: uint8 [batch, 3, height, width]. Returns uint8 of the same shape. Source: JFIF 1.02, page 3 (ITU-R BT.601).
    """
    red, green, blue = image.float().unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    blueness = (blue - luma) / 1.772 + 128
    redness = (red - luma) / 1.402 + 128
    return torch.stack((luma, blueness, redness), dim=1).round().clamp(0, 255).to(torch.uint8)


def max_pool(x: Tensor) -> Tensor:
    """The maximum over windows of 3 by 3, every second one, with a border of one.

    ``x``: floating [batch, channels, height, width]. Returns the dtype of x, half the height and width, rounded up.
    Source: the stem of ResNet, He et al. 2015, arXiv 1512.03385, table 1.
    """
    return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def bilinear_upsample(x: Tensor, skip: Tensor) -> Tensor:
    """Twice the height and width by bilinear interpolation, added to a finer level of a feature pyramid.

    ``x``: float32 [batch, channels, height, width]. ``skip``: float32 [batch, channels, 2 height, 2 width].
    Returns float32, the shape of skip.
    Source: Feature Pyramid Networks, arXiv 1612.03144, section 3, with pixel centres at halves.
    """
    return skip + functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def sobel(image: Tensor) -> Tensor:
    """The magnitude of the image's gradient, the border repeated.

    ``image``: float32 [batch, height, width]. Returns float32 of the same shape. Source: Gonzalez and Woods, section 10.2.
    """
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    up, middle, down = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    smooth = up + 2 * middle + down
    slope = down - up
    horizontal = smooth[:, :, 2:] - smooth[:, :, :-2]
    vertical = slope[:, :, :-2] + 2 * slope[:, :, 1:-1] + slope[:, :, 2:]
    return torch.sqrt(horizontal.square() + vertical.square())


def box_iou(centres: Tensor, sizes: Tensor, other_centres: Tensor, other_sizes: Tensor) -> Tensor:
    """Intersection over union of every two boxes.

    ``centres``, ``sizes``: float32 [count, 2]. ``other_centres``, ``other_sizes``: float32 [others, 2]; sizes positive.
    Returns float32 [count, others]. Source: Everingham et al. 2010, The PASCAL VOC Challenge, equation 4.
    """
    low = torch.maximum((centres - sizes / 2)[:, None], other_centres - other_sizes / 2)
    high = torch.minimum((centres + sizes / 2)[:, None], other_centres + other_sizes / 2)
    common = (high - low).clamp(min=0).prod(-1)
    return common / (sizes.prod(-1)[:, None] + other_sizes.prod(-1) - common)
