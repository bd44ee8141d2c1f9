"""Triton's interpreter, mended where a release of it does not run with a numpy that it allows, or computes what no GPU does."""

from __future__ import annotations

from typing import Any

import numpy
import triton.language as tl
from triton.runtime import interpreter


def mend() -> None:
    """Done once a process."""
    _mend_loops()
    _mend_products()


def _mend_loops() -> None:
    """Let numbers of one element count loops: Triton 3.6 asks numpy for ``int(array)``, which numpy 2.4 refuses for a shape of (1,).

    Later releases of Triton squeeze the array first; with them this changes nothing.
    """
    inner = interpreter._patch_lang_tensor
    if getattr(inner, "mended", False):
        return

    def patch(tensor: Any, scope: Any) -> None:
        inner(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    patch.mended = True  # type: ignore[attr-defined]
    interpreter._patch_lang_tensor = patch


def _mend_products() -> None:
    """Multiply bfloat16 as numbers: numpy has no such type, and Triton up to 3.9 multiplies the 16 bits that stand for each as integers."""
    inner = interpreter.InterpreterBuilder.create_dot
    if getattr(inner, "mended", False):
        return

    def create_dot(self: Any, one: Any, other: Any, *rest: Any, **named: Any) -> Any:
        return inner(self, _widened(one), _widened(other), *rest, **named)

    create_dot.mended = True  # type: ignore[attr-defined]
    interpreter.InterpreterBuilder.create_dot = create_dot


def _widened(handle: Any) -> Any:
    """A bfloat16 factor in float32; any other as it is."""
    if handle.dtype.scalar != tl.bfloat16:
        return handle
    wide = (handle.data.astype(numpy.uint32) << 16).view(numpy.float32)
    return interpreter.TensorHandle(wide, tl.float32)
