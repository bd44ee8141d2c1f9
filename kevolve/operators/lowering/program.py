"""What a reference is lowered to, before any language: kernels that are loops over steps. Every language's printer starts from here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kevolve.operators.lowering.expression import Buffer, Expression
from kevolve.operators.lowering.index import Axis, Index, Size

COMBINATIONS = ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin")


@dataclass(eq=False)
class Store:
    """``buffer[place] = value`` at every place of its step's axes; ``value`` is narrowed to the buffer's dtype.

    A step's values are all worked out before its first store: it may write what it reads. ``condition``: where it is false
    nothing is written.
    """

    buffer: Buffer
    place: Index  # the element's number
    value: Expression
    condition: Expression | None = None


@dataclass(eq=False)
class Step:
    """One tensor-wide operation over ``axes`` (of what it gives) and ``inner`` (which it combines or runs along).

    ``kind``:

    - ``map``: stores only, over ``axes``;
    - ``reduce``: ``body`` combined over ``inner`` by ``combine``, starting from what changes nothing. ``argmax`` and ``argmin`` give the
      place along ``inner`` (row-major) of the first best, NaN before all;
    - ``product``: a ``reduce`` by sum whose ``body`` is ``first * second``, where ``first`` has no axis of ``across[1]`` and ``second``
      none of ``across[0]``: a matrix product;
    - ``scan``: ``body`` combined along the one axis in ``inner``, which is the last of ``axes`` too; gives every partial result;
    - ``scatter``: ``stores`` over ``axes``, several of which may meet at one place, where they are combined by ``combine`` (``set``: unique
      places or the last wins; ``add``, ``max``, ``min``, ``prod``) with what is there already;
    - ``call``: a library operator, in languages that can: ``operator`` (``aten::mm``) of ``arguments`` in the schema's order: a Buffer,
      ("permute", Buffer, order of axes), an Index, a list of these, or a plain value; gives ``results``, new tensors, not allocated here.

    ``buffer``: where the result of a reduction, product or scan is kept for later kernels (workspace or output), else None: then only
    steps of the same kernel use it. ``dtype``: of the result as computed (float32, float64, int64, bool). ``name`` and ``lines``: the
    reference's variable and source lines.
    """

    name: str
    kind: str
    axes: tuple[Axis, ...]
    dtype: str
    inner: tuple[Axis, ...] = ()
    body: Expression | None = None
    combine: str = "sum"
    stores: list[Store] = field(default_factory=list)
    buffer: Buffer | None = None
    first: Expression | None = None
    second: Expression | None = None
    across: tuple[tuple[Axis, ...], tuple[Axis, ...]] = ((), ())
    operator: str = ""
    operands: tuple[Buffer, ...] = ()
    results: tuple[Buffer, ...] = ()
    arguments: tuple[Any, ...] = ()
    lines: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{self.kind} {self.name}{list(self.axes)}{list(self.inner) or ''}"


@dataclass(eq=False)
class Pass:
    """Steps that go through the same ``axes`` together, inside one place of their kernel's ``grid``.

    ``axes`` () : once a place. The last axis is the one that runs along memory (the lanes) in the form ``rows``.
    A reduction's result is known after its pass; steps of one pass do not use one another's reductions.
    """

    axes: tuple[Axis, ...]
    steps: list[Step]


@dataclass(eq=False)
class Kernel:
    """A loop over ``grid``, whose places are independent, and passes in order within each place.

    ``form``:

    - ``rows``: lanes run along the last axis of each pass; a place of the grid is a row (a softmax of rows, a sum of each row);
    - ``columns``: lanes run along the last axis of ``grid``, which is contiguous in memory; the passes' axes are loops around them
      (a sum of each column; everything pointwise, with one pass without axes);
    - ``whole``: ``grid`` is (); one reduction pass over everything, cut into parts that are combined afterwards;
    - ``product``: one ``product`` step; ``grid`` = batch axes + ``across``; the passes after it (axes ()) are its epilogue;
    - ``scan``: one ``scan`` step over rows, ``grid`` the others; the epilogue's stores use its result at the same place;
    - ``scatter``: one ``scatter`` step;
    - ``call``: one ``call`` step.

    All axes of the grid and the passes are distinct objects; expressions in steps use exactly these.
    """

    name: str
    form: str
    grid: tuple[Axis, ...]
    passes: list[Pass]
    lines: tuple[str, ...] = ()

    @property
    def steps(self) -> list[Step]:
        """All steps in order."""
        return [step for each in self.passes for step in each.steps]


@dataclass(eq=False)
class Argument:
    """An argument of the reference in its order. ``kind``: ``tensor`` (then ``buffer``), ``int``, ``float`` or ``bool``."""

    name: str
    kind: str
    buffer: Buffer | None = None


@dataclass(eq=False)
class Program:
    """A whole kernel file's content: ``kernels`` in order between arguments and outputs.

    ``sizes``: what each ``Size`` is, in order of definition: ("x", 0) the size of an input's axis, "count" an integer argument itself, an
    ``Index`` over earlier ones. ``scalars``: floating-point numbers made from arguments and sizes, float64 expressions without memory,
    worked out once on the host; kernels use them by name (``scalar`` of dtype float32). ``checks``: pairs that must be equal, or the
    call is refused with the text; an input's axis is a ``Size`` called ``x.size(0)``, which every language writes so. ``fills``: what an
    output or workspace holds before the first kernel: a number, or the buffer that it is a copy of. ``mutated``: inputs that are written
    in place. ``outputs``: what is returned, in order. ``single``: bare, not in a tuple. ``doc``: one line for the head of the file.
    """

    entry: str
    arguments: list[Argument]
    outputs: list[Buffer]
    kernels: list[Kernel]
    sizes: list[tuple[Size, tuple[str, int] | str | Index]] = field(default_factory=list)
    scalars: list[tuple[str, Expression]] = field(default_factory=list)
    workspaces: list[Buffer] = field(default_factory=list)
    fills: list[tuple[Buffer, float | int | bool | Buffer]] = field(default_factory=list)
    mutated: list[Buffer] = field(default_factory=list)
    checks: list[tuple[Index, Index, str]] = field(default_factory=list)
    doc: str = ""
    single: bool = True
