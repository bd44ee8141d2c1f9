"""While a reference is traced: symbols that Python would make numbers of stay symbols, and each node's line is noted."""

from __future__ import annotations

import ast
import contextlib
import inspect
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kevolve.spec.reference import import_module
from kevolve.spec.spec import Spec


@contextlib.contextmanager
def symbolic_names(spec: Spec) -> Iterator[None]:
    """Names of the reference's module that would make a number of a symbol, replaced meanwhile by ones that do not."""
    module = import_module(spec.reference.module, spec.reference.file)
    names = module.__dict__
    replaced: dict[str, Any] = {"len": _symbolic_len}
    if inspect.ismodule(names.get("math")):
        replaced["math"] = _Shim(names["math"], {"sqrt": _symbolic_sqrt})
    if inspect.ismodule(names.get("torch")):
        replaced["torch"] = _Shim(names["torch"], {"tril_indices": _symbolic_tril_indices})
    own = {name: names[name] for name in replaced if name in names}
    names.update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            del names[name]
        names.update(own)


class _Shim:
    """A module with some functions replaced."""

    def __init__(self, module: Any, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._module, self._functions = module, functions

    def __getattr__(self, name: str) -> Any:
        return self._functions.get(name) or getattr(self._module, name)


def _symbolic_len(item: Any) -> Any:
    import torch

    return item.shape[0] if isinstance(item, torch.Tensor) and item.dim() else len(item)


def _symbolic_sqrt(value: Any) -> Any:
    import math

    import torch

    if isinstance(value, torch.SymInt | torch.SymFloat):
        return torch._sym_sqrt(value)  # type: ignore[attr-defined]
    return math.sqrt(value)


def _symbolic_tril_indices(row: Any, col: Any, offset: int = 0, **keywords: Any) -> Any:
    """The same by arithmetic: the p-th pair below the diagonal of a square."""
    import torch

    if not isinstance(row, torch.SymInt) or offset != -1:
        return torch.tril_indices(int(row), int(col), offset, **keywords)
    number = torch.arange(row * (row - 1) // 2, device=keywords.get("device"))
    first = ((1 + torch.sqrt((8 * number + 1).double())) / 2).floor().long()
    return torch.stack((first, number - first * (first - 1) // 2))


def _is_constant(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> bool:
    return mode == "constant" and all(isinstance(size, int) and size >= 0 for size in pad)


def _padded(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    """Padding as a concatenation (torch's own fixes the sizes)."""
    import torch

    for number in range(len(pad) // 2):
        axis = input.dim() - 1 - number
        parts = []
        for size in pad[2 * number : 2 * number + 2]:
            shape = [*input.shape[:axis], size, *input.shape[axis + 1 :]]
            parts.append(torch.full(shape, 0 if value is None else value, dtype=input.dtype, device=input.device))
        whole = [part for part in (parts[0], input, parts[1]) if part.shape[axis] != 0]
        input = torch.cat(whole, axis) if len(whole) > 1 else input
    return input


def _is_bilinear(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: Any = None, *_: Any, **more: Any
) -> bool:
    wanted = mode == "bilinear" and not align_corners and input.dim() == 4 and not more.get("antialias")
    return wanted and (size is not None or (isinstance(scale_factor, int | float) and float(scale_factor).is_integer()))


def _bilinear(input: Any, size: Any = None, scale_factor: Any = None, **_: Any) -> Any:
    """Bilinear interpolation with pixel centres at halves, in operators that take symbols (torch's own fixes the batch)."""
    height, width = input.shape[-2:]
    scale = int(scale_factor) if size is None else None
    tall, wide = (height * scale, width * scale) if scale is not None else size if isinstance(size, tuple | list) else (size, size)
    (above, below, down), (left, right, across) = _neighbours(height, tall, scale), _neighbours(width, wide, scale)
    above, below, down = above[:, None], below[:, None], down[:, None]
    top = input[:, :, above, left] * (1 - across) + input[:, :, above, right] * across
    bottom = input[:, :, below, left] * (1 - across) + input[:, :, below, right] * across
    return top * (1 - down) + bottom * down


def _neighbours(size: Any, wanted: Any, scale: int | None) -> tuple[Any, Any, Any]:
    """For each place the element before it, the one behind it, and the share of that."""
    import torch

    step = 1 / scale if scale is not None else size / wanted
    place = ((torch.arange(wanted) + 0.5) * step - 0.5).clamp(min=0.0)
    first = place.floor()
    index = first.long()
    return index, (index + 1).clamp(max=size - 1), place - first


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the tracer's own log: what it refuses is told in our words."""
    import logging

    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


class Lines:
    """While active: which line of the reference's file makes which nodes."""

    def __init__(self, reference: Callable[..., Any], spec: Spec) -> None:
        self.found: dict[str, tuple[str, str]] = {}
        self._file = str(spec.reference.file)
        with contextlib.suppress(TypeError):
            self._file = inspect.getsourcefile(inspect.unwrap(reference)) or self._file
        self._mode: Any = None
        self.last = ""  # the function called last

    def __enter__(self) -> None:
        from torch.overrides import TorchFunctionMode

        outer = self

        class Mode(TorchFunctionMode):
            def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
                before, outer.last = outer._nodes(), getattr(function, "__name__", str(function))
                if outer.last == "interpolate" and _is_bilinear(*arguments, **(keywords or {})):
                    function = _bilinear
                if outer.last == "pad" and _is_constant(*arguments, **(keywords or {})):
                    function = _padded
                result = function(*arguments, **(keywords or {}))
                outer._note(before)
                return result

        self._mode = Mode()
        self._mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)

    def _nodes(self) -> int:
        from torch.fx.experimental.proxy_tensor import get_proxy_mode

        proxies = get_proxy_mode()
        return len(proxies.tracer.graph.nodes) if proxies is not None else 0

    def _note(self, before: int) -> None:
        from torch.fx.experimental.proxy_tensor import get_proxy_mode

        proxies = get_proxy_mode()
        if proxies is None or len(proxies.tracer.graph.nodes) == before:
            return
        frame = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back  # type: ignore[assignment]
        if frame is None:
            return
        text, name = _statement(self._file, frame.f_lineno)
        for node in list(proxies.tracer.graph.nodes)[before:]:
            self.found.setdefault(node.name, (text, name))


def _statement(file: str, line: int) -> tuple[str, str]:
    """The statement around a line as one line, and the variable that it assigns, or ""."""
    source = "".join(linecache.getlines(file))
    best: ast.stmt | None = None
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno) and not hasattr(node, "body"):
            best = node
    if best is None:
        return linecache.getline(file, line).strip(), ""
    text = " ".join(part.strip() for part in (ast.get_source_segment(source, best) or "").splitlines())
    name = ""
    if isinstance(best, ast.Assign) and isinstance(best.targets[0], ast.Name):
        name = best.targets[0].id
    return text, name
