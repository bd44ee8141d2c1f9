"""The reference as a graph of aten operators over symbolic sizes, with the reference's own names and lines.

``make_fx`` on fake tensors whose sizes are symbols: one trace stands for all sizes. Sizes that the reference fixes (a Python loop over
an axis, ``range``) are found out and named.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kevolve.operators.lowering.symbols import Lines, quiet, symbolic_names
from kevolve.spec.domain import Sizes
from kevolve.spec.reference import resolve
from kevolve.spec.spec import Draw, Spec

if TYPE_CHECKING:
    import torch

_LADDER = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41)  # distinct sizes, none of which stands in a reference as a number of its own
_OTHER = (9, 12, 14, 15, 18, 21, 22, 25, 26, 5, 3, 4, 6)  # others, to tell what is always the same from what only looks so
_NAMED = re.compile(r"((?:``\w+``(?:,\s+|\s+and\s+)?)+):?([^`]*?)\[([^\]]*)\]", re.DOTALL)


class Uncovered(Exception):
    """Why a reference cannot be lowered, in words for its author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An argument at the trace. ``sizes``: names of its axes (tensors); ``like``: the input whose dtype it has, where that changes."""

    name: str
    value: Any
    fake: Any
    like: str | None = None
    sizes: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Captured:
    """The graph. ``likes``: by output, the input whose floating dtype it has, or None.

    ``lines``: by node name, the reference's line (without indentation) and the variable that it gives, or "".
    ``environment``: torch's, with the guards that hold wherever the graph does.
    """

    entry: str
    inputs: list[Input]
    graph: torch.fx.Graph
    environment: Any
    likes: tuple[str | None, ...] = ()
    lines: dict[str, tuple[str, str]] = field(default_factory=dict)
    single: bool = True
    doc: str = ""


def capture(spec: Spec, *, backward: bool = False) -> Captured:
    """Trace the spec's reference. ``backward``: its gradients for ``spec.grad``, of output gradients and inputs.

    Raises ``Uncovered`` where it fixes a size that varies, or cannot be traced.
    """
    from kevolve.evaluate.materialise import grad_outputs, materialise
    from kevolve.evaluate.oracle import forward

    values = _values(spec)
    call = resolve(spec.reference, values)
    draw = Draw(values=values, seed=0)
    given = materialise(spec, draw)
    likes, output_likes = _dtypes(spec, values)
    names = [re.sub(r"\W", "_", name) for name in spec.reference.inputs]
    entry, function = spec.name, call
    if backward:
        grads = grad_outputs(spec, draw, forward(spec, draw, given))
        count = len(grads)
        positions = [spec.reference.inputs.index(name) for name in spec.grad]
        function = _gradients(call, count, positions)
        given = (*grads, *given)
        names = [*(["grad"] if count == 1 else [f"grad_{place}" for place in range(count)]), *names]
        likes = [*output_likes[:count], *likes]
        entry = f"{spec.name}_backward"
        output_likes = tuple(likes[count + place] for place in positions)
    static = _static_sizes(spec, given) if not backward else {}
    return _traced(spec, entry, function, given, names, likes, output_likes, static, call)


def _values(spec: Spec) -> dict[str, Any]:
    """Arguments to trace at: of a float32 case, with distinct small sizes for what varies."""
    if not spec.cases:
        raise Uncovered("no benchmark case to take sizes from")
    case = min(spec.cases, key=lambda each: 0 if "float32" in map(str, each.values.values()) else 1)
    return _resized(spec, case.values, _LADDER)


def _resized(spec: Spec, given: Mapping[str, Any], ladder: Sequence[int]) -> dict[str, Any]:
    """With the first sizes of the ladder that the domain takes, each once."""
    left, chosen = list(ladder), dict(given)
    for name, domain in spec.vary.items():
        if isinstance(domain, Sizes):
            chosen[name] = next((size for size in left if domain.contains(size)), min(max(domain.low, 2), domain.high))
            left = [size for size in left if size != chosen[name]]
        else:
            chosen[name] = next((value for value in domain.values if isinstance(value, int) and value >= 2), domain.values[-1])
    return chosen


def _dtypes(spec: Spec, values: Mapping[str, Any]) -> tuple[list[str | None], tuple[str | None, ...]]:
    """For each input and output the first input whose dtype it has in every case, None where its dtype is always the same."""
    import torch

    from kevolve.evaluate.materialise import materialise
    from kevolve.evaluate.oracle import forward

    fixed = {name for name in values if name in spec.vary}
    choices: list[dict[str, Any]] = []
    for case in spec.cases:
        mixed = {name: values[name] if name in fixed or isinstance(case.values[name], int) else case.values[name] for name in values}
        if mixed not in choices:
            choices.append(mixed)
    seen_inputs, seen_outputs = [], []
    for chosen in choices:
        draw = Draw(values=chosen, seed=0)
        inputs = materialise(spec, draw)
        outputs = forward(spec, draw, inputs)
        seen_inputs.append([item.dtype if isinstance(item, torch.Tensor) else None for item in inputs])
        seen_outputs.append([item.dtype if isinstance(item, torch.Tensor) else None for item in outputs])
    columns = [[row[place] for row in seen_inputs] for place in range(len(seen_inputs[0]))]
    names = [re.sub(r"\W", "_", name) for name in spec.reference.inputs]
    likes = [names[columns.index(column)] if len(set(column)) > 1 else None for column in columns]
    found: list[str | None] = []
    for place in range(len(seen_outputs[0])):
        column = [row[place] for row in seen_outputs]
        if len(set(column)) > 1 and column not in columns:
            raise Uncovered(f"output {place} changes its dtype with the case and has no input's")
        found.append(likes[columns.index(column)] if len(set(column)) > 1 else None)
    return likes, tuple(found)


def _static_sizes(spec: Spec, given: Sequence[Any]) -> dict[tuple[int, int], int]:
    """Axes whose size is one number in every case and at the trace: (input, axis) -> size."""
    import torch

    from kevolve.evaluate.materialise import materialise

    found: dict[tuple[int, int], set[int]] = {}
    others = [materialise(spec, Draw(values=_resized(spec, case.values, _OTHER), seed=0)) for case in spec.cases]
    for inputs in (given, *others):
        for place, item in enumerate(inputs):
            for axis, size in enumerate(item.shape) if isinstance(item, torch.Tensor) else ():
                found.setdefault((place, axis), set()).add(size)
    return {key: next(iter(sizes)) for key, sizes in found.items() if len(sizes) == 1}


def _gradients(call: Callable[..., Any], count: int, positions: Sequence[int]) -> Callable[..., Any]:
    def backward(*arguments: Any) -> Any:
        import torch

        grads, inputs = arguments[:count], list(arguments[count:])
        for place in positions:
            inputs[place] = inputs[place].detach().requires_grad_(True)
        with torch.enable_grad():
            outputs = call(*inputs)
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        pairs = [
            (output, grad)
            for output, grad in zip([o for o in outputs if o.is_floating_point()], grads, strict=True)
            if output.requires_grad
        ]
        return torch.autograd.grad([pair[0] for pair in pairs], [inputs[place] for place in positions], [pair[1] for pair in pairs])

    return backward


def _traced(
    spec: Spec,
    entry: str,
    function: Callable[..., Any],
    given: Sequence[Any],
    names: Sequence[str],
    likes: Sequence[str | None],
    output_likes: tuple[str | None, ...],
    static: Mapping[tuple[int, int], int],
    reference: Callable[..., Any],
) -> Captured:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    environment = ShapeEnv()
    mode = FakeTensorMode(shape_env=environment, allow_non_fake_inputs=True)
    fakes = _fakes(mode, names, given, static)
    lines = Lines(reference, spec)
    single = [True]

    def flat(*arguments: Any) -> Any:
        with lines:
            returned = function(*arguments)
        single[0] = not isinstance(returned, tuple | list)
        return () if returned is None else returned

    traced = torch.func.functionalize(flat, remove="mutations") if spec.mutates else flat
    try:
        with mode, symbolic_names(spec), quiet():
            module = make_fx(traced, tracing_mode="real", decomposition_table=_decompositions())(*fakes)
    except Uncovered:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise Uncovered(f"{lines.last or 'the reference'} is not covered: torch cannot trace it for sizes that vary ({why})") from error
    module.graph.eliminate_dead_code()
    _out_of_place(module.graph)
    captured = Captured(
        entry=entry,
        inputs=[],
        graph=module.graph,
        environment=environment,
        likes=output_likes,
        lines=_last_named(module.graph, lines.found),
        single=single[0],
        doc=_doc(reference),
    )
    axes = _axis_names(reference)
    for name, item, fake, like in zip(names, given, fakes, likes, strict=True):
        sizes = axes.get(name, ()) if isinstance(item, torch.Tensor) and len(axes.get(name, ())) == item.dim() else ()
        captured.inputs.append(Input(name=name, value=item, fake=fake, like=like, sizes=tuple(sizes)))
    _refuse_fixed(spec, captured, static)
    return captured


def _out_of_place(graph: Any) -> None:
    """What is written to a fresh tensor that nobody else reads as a new one: torch's ``rms_norm`` adds its epsilon in place."""
    import torch

    for node in graph.nodes:
        name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
        if name.endswith("_") and hasattr(torch.ops.aten, name[:-1]) and node.args and _is_fresh(node.args[0]):
            node.target = getattr(getattr(torch.ops.aten, name[:-1]), node.target._overloadname)


def _is_fresh(node: Any) -> bool:
    """Whether an operator made a tensor of its own, no view, for one reader."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and len(node.users) == 1 and all(each.alias_info is None for each in schema.returns)


def _fakes(mode: Any, names: Sequence[str], given: Sequence[Any], static: Mapping[tuple[int, int], int]) -> list[Any]:
    """The arguments with symbols for sizes (one for equal sizes) and numbers; what is always the same stays a number."""
    import torch
    from torch._dynamo.source import LocalSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    environment, fakes = mode.shape_env, list[Any]()
    for place, (name, item) in enumerate(zip(names, given, strict=True)):
        source = LocalSource(name)
        if isinstance(item, torch.Tensor):
            dynamic = [DimDynamic.STATIC if (place, axis) in static else DimDynamic.DUCK for axis in range(item.dim())]
            context: Any = StatelessSymbolicContext(dynamic_sizes=dynamic)
            fakes.append(mode.from_tensor(item.detach().contiguous(), source=source, symbolic_context=context))
        elif isinstance(item, bool) or not isinstance(item, int | float):
            fakes.append(item)
        else:
            symbol = environment.create_unspecified_symbol(item, source, DimDynamic.DYNAMIC)
            make = environment.create_symfloatnode if isinstance(item, float) else environment.create_symintnode
            fakes.append(make(symbol, hint=item, source=source))
    return fakes


def _last_named(graph: Any, lines: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Of the nodes of one statement only the last is the variable that it assigns."""
    found: dict[str, tuple[str, str]] = {}
    after = ""
    for node in reversed(graph.nodes):
        text, name = lines.get(node.name, ("", ""))
        if text:
            found[node.name] = (text, name if text != after else "")
            after = text
    return dict(reversed(found.items()))


def _refuse_fixed(spec: Spec, captured: Captured, static: Mapping[tuple[int, int], int]) -> None:
    """Raise where the trace has put a number in the place of a size that varies."""
    import torch

    for place, item in enumerate(captured.inputs):
        if isinstance(item.value, torch.Tensor):
            for axis, size in enumerate(item.fake.shape):
                fixed = isinstance(size, int) or captured.environment.replace(size.node.expr).is_number
                if fixed and (place, axis) not in static and item.value.shape[axis] > 1:
                    named = item.sizes[axis] if item.sizes else f"axis {axis}"
                    raise Uncovered(
                        f"it fixes the size {named} of {item.name} (a Python loop over it, or an operator that takes no symbol)"
                    )
        elif isinstance(item.value, int) and not isinstance(item.value, bool):
            expression = captured.environment.replace(item.fake.node.expr)
            if expression.is_number:
                raise Uncovered(f"it fixes the number {item.name} (a Python loop over it, or an operator that takes no symbol)")


def _decompositions() -> dict[Any, Any]:
    """What is taken apart before anything is lowered; what the front end knows in a better form is kept whole."""
    import torch
    from torch._decomp import core_aten_decompositions, get_decompositions

    aten = torch.ops.aten
    table = dict(core_aten_decompositions())
    table |= get_decompositions(
        [
            *(aten._softmax, aten._log_softmax, aten._softmax_backward_data, aten._log_softmax_backward_data),
            *(aten.native_layer_norm, aten.native_layer_norm_backward, aten.native_group_norm, aten.gelu, aten.gelu_backward),
            *(aten.silu, aten.silu_backward, aten.sigmoid_backward, aten.tanh_backward, aten.addmm, aten.addbmm, aten.baddbmm),
            *(aten.native_batch_norm, aten._native_batch_norm_legit, aten.logsumexp, aten.huber_loss, aten.smooth_l1_loss, aten.mse_loss),
            *(aten.binary_cross_entropy_with_logits, aten.binary_cross_entropy, aten.embedding_dense_backward, aten.linalg_vector_norm),
            *(aten.upsample_nearest2d, aten.softplus, aten.leaky_relu, aten.elu, aten.hardswish, aten.mish),
            *(aten.nll_loss_forward, aten.log_sigmoid_forward, aten.lerp, aten.addcmul, aten.addcdiv, aten.rsub, aten.hardtanh),
            *(aten.std, aten.var, aten.std_mean, aten.t, aten.transpose, aten.squeeze, aten.select_scatter, aten.slice_scatter),
            *(aten.masked_fill, aten.stack, aten.unbind, aten.chunk, aten.split, aten.norm, aten.renorm, aten.trace, aten.dot, aten.mv),
            *(aten.native_dropout, aten.index_add, aten.index_copy, aten.flip, aten.roll, aten.triu, aten.tril, aten.diag_embed),
            *(aten.pixel_shuffle, aten.linspace, aten.eye, aten.heaviside, aten.frac, aten.xlogy, aten.logaddexp, aten.logit),
        ]
    )
    for kept in (
        aten.index_add.default,
        aten.index_copy.default,
        aten.mm.default,
        aten.bmm.default,
        aten.cumsum.default,
        aten.flip.default,
        aten.var.correction,
        aten.var_mean.correction,
        aten.embedding_dense_backward.default,
        aten.max_pool2d_with_indices.default,
    ):
        table.pop(kept, None)
    return table


def _doc(reference: Callable[..., Any]) -> str:
    text = inspect.getdoc(reference) or ""
    return text.splitlines()[0].strip().rstrip(".") if text else ""


def _axis_names(reference: Callable[..., Any]) -> dict[str, tuple[str, ...]]:
    """Names of axes where the docstring gives them: ``x``: floating [rows, cols]."""
    found: dict[str, tuple[str, ...]] = {}
    for match in _NAMED.finditer(inspect.getdoc(reference) or ""):
        axes = tuple(part.strip() for part in match[3].split(",")) if match[3].strip() else ()
        for name in re.findall(r"``(\w+)``", match[1]):
            found.setdefault(name, axes)
    return found
