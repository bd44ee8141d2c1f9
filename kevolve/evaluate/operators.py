"""Which library operators a kernel may dispatch: those that compute nothing, and those that its spec allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_ALLOCATION = """
    empty empty_strided empty_like new_empty new_empty_strided zeros zeros_like new_zeros zero_ ones ones_like new_ones full full_like
    new_full fill_ resize_ set_ scalar_tensor lift_fresh lift_fresh_copy
"""
_VIEWS = """
    view _unsafe_view reshape _reshape_alias as_strided transpose t permute select slice narrow expand squeeze unsqueeze unfold diagonal
    alias detach detach_ split split_with_sizes unbind chunk movedim view_as flatten unflatten view_as_real
"""
_METADATA = "size stride sym_size sym_stride sym_numel storage_offset is_contiguous numel dim device is_pinned"
_CONTIGUOUS = "clone contiguous copy_"
_SIZES = "_local_scalar_dense"  # .item(): sizes that depend on the data
COMPUTES_NOTHING = frozenset(f"aten::{name}" for name in f"{_ALLOCATION} {_VIEWS} {_METADATA} {_CONTIGUOUS} {_SIZES}".split())


def forbidden(called: Iterable[object], allow: Sequence[str]) -> list[str]:
    """The operators among ``called`` that compute and that ``allow`` does not name (``"aten::mm"``), sorted."""
    return sorted({str(name) for name in called} - COMPUTES_NOTHING - set(allow))
