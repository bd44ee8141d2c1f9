"""The spaces that are measured: a sample in Triton at one shape, and every setting of the knobs that matter there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kevolve.operators.samples.library import SAMPLES
from kevolve.operators.samples.sample import Sample
from reference_ops import convolutions, norms, recommendation

LANGUAGE = "triton"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A family of kernels for one shape. ``shapes``: of its inputs. ``knobs``: those varied; the others keep their defaults."""

    name: str
    sample: str
    inputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    reference: Callable[..., Any]
    varied: tuple[str, ...]
    constants: Mapping[str, float]

    @property
    def family(self) -> Sample:
        """The sample."""
        return next(sample for sample in SAMPLES if sample.name == self.sample)

    @property
    def knobs(self) -> dict[str, tuple[Any, ...]]:
        """The values of each knob that is varied, the default first."""
        return {name: self.family.knobs[LANGUAGE][name] for name in self.varied}

    def settings(self) -> list[dict[str, Any]]:
        """Every setting."""
        return [dict(zip(self.knobs, values, strict=True)) for values in itertools.product(*self.knobs.values())]

    def source(self, setting: Mapping[str, Any]) -> str:
        """The kernel for a setting; its entry function has the space's name."""
        return self.family.render(LANGUAGE, entry=self.name, inputs=self.inputs, constants=self.constants, knobs=setting)


SPACES = (
    Space(
        name="rms_norm_backward",
        sample="rms_norm_backward",
        inputs=("dy", "x", "weight"),
        shapes=((8192, 4096), (8192, 4096), (4096,)),
        dtype="bfloat16",
        reference=norms.rms_norm_backward,
        varied=("programs", "elements_per_thread", "num_stages", "weights", "stream", "add_cols"),  # the others are for other rows
        constants={"eps": norms.RMS_EPS},
    ),
    Space(
        name="wukong_fm",
        sample="factorisation_machine",
        inputs=("x", "y"),
        shapes=((1024, 40, 224), (1024, 40, 448)),
        dtype="float16",
        reference=recommendation.wukong_fm,
        varied=("form", "cols", "depth", "span", "num_warps", "num_stages"),
        constants={},
    ),
    Space(
        name="conv1d",
        sample="conv1d_padded",
        inputs=("x", "weight", "bias"),
        shapes=((2048, 96, 200), (96, 96, 3), (96,)),
        dtype="float16",
        reference=convolutions.conv1d,
        varied=("layout", "taps", "cols", "out_channels", "in_channels", "num_warps", "num_stages"),
        constants={},
    ),
)


def named(name: str) -> Space:
    """The space ``name``. Raises ``LookupError`` listing those there are."""
    for space in SPACES:
        if space.name == name:
            return space
    raise LookupError(f"unknown space {name!r}; expected one of {', '.join(space.name for space in SPACES)}")
