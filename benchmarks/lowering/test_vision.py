"""Operators on images and boxes."""

from __future__ import annotations

import pytest

import kevolve
from benchmarks.lowering.operators import vision
from kevolve import Tensor, quantised, sizes

IMAGES = dict(batch=sizes(1, 8), channels=sizes(1, 64), height=sizes(1, 128), width=sizes(1, 128))


@kevolve.kernel(vision.rgb_to_ycbcr, compare={0: quantised(1)}, vary=dict(batch=sizes(0, 8), height=sizes(1, 256), width=sizes(1, 256)))
@pytest.mark.parametrize("batch, height, width", [(1, 224, 224), (8, 64, 100)])
def test_rgb_to_ycbcr(batch, height, width):
    """One photograph; a batch of thumbnails."""
    return Tensor(batch, 3, height, width, dtype="uint8")


@kevolve.kernel(vision.max_pool, vary=IMAGES)
@pytest.mark.parametrize(
    "batch, channels, height, width, dtype", [(1, 64, 56, 56, "float32"), (16, 32, 27, 27, "float32"), (1, 64, 56, 56, "bfloat16")]
)
def test_max_pool(batch, channels, height, width, dtype):
    """The stem of a ResNet for faces of 112 pixels; odd sizes, as in AlexNet."""
    return Tensor(batch, channels, height, width, dtype=dtype)


@kevolve.kernel(vision.bilinear_upsample, vary=IMAGES)
@pytest.mark.parametrize("batch, channels, height, width", [(1, 128, 25, 34), (4, 64, 16, 16)])
def test_bilinear_upsample(batch, channels, height, width):
    """A level of a feature pyramid; square ones of a batch."""
    return Tensor(batch, channels, height, width), Tensor(batch, channels, 2 * height, 2 * width)


@kevolve.kernel(vision.sobel, vary=dict(batch=sizes(1, 16), height=sizes(1, 256), width=sizes(1, 256)))
@pytest.mark.parametrize("batch, height, width", [(1, 480, 320), (16, 64, 64)])
def test_sobel(batch, height, width):
    """One image; a batch of patches."""
    return Tensor(batch, height, width)


@kevolve.kernel(vision.box_iou, vary=dict(count=sizes(0, 1024), others=sizes(0, 512)))
@pytest.mark.parametrize("count, others", [(1000, 50), (4000, 10)])
def test_box_iou(count, others):
    """Proposals or anchors against the objects of an image."""
    extent = dict(low=0.05, high=0.5)
    return (
        Tensor(count, 2, low=0.0, high=1.0),
        Tensor(count, 2, **extent),
        Tensor(others, 2, low=0.0, high=1.0),
        Tensor(others, 2, **extent),
    )
