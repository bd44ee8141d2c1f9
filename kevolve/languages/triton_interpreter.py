"""Triton's interpreter, mended where a release of it does not run with a numpy that it allows."""

from __future__ import annotations

from typing import Any

from triton.runtime import interpreter


def mend() -> None:
    """Let numbers of one element count loops: Triton 3.6 asks numpy for ``int(array)``, which numpy 2.4 refuses for a shape of (1,).

    Later releases of Triton squeeze the array first; with them this changes nothing. Done once a process.
    """
    inner = interpreter._patch_lang_tensor
    if getattr(inner, "mended", False):
        return

    def patch(tensor: Any, scope: Any) -> None:
        inner(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    patch.mended = True  # type: ignore[attr-defined]
    interpreter._patch_lang_tensor = patch
