"""The process that times settings on the device: a question a line of JSON, an answer a line of JSON.

Device time of the call replayed from a graph, so that nothing of the host lies in it, over three sets of inputs in turn; before each
the L2 is written over. Medians over 25 samples, fewer where a call takes longer than 5 ms. A setting is compared with the reference
before it is timed, and is not timed when it is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch

from benchmarks.search.spaces import Space, named

SETS = 3
LONG_US = 5000.0
FEW = 5
FLUSH_BYTES = 256 << 20
SMALL = {8192: 6, 4096: 128, 1024: 2, 2048: 2, 448: 100, 224: 70, 200: 70, 96: 33}  # sizes for the interpreter


def loaded(source: Path, entry: str) -> Callable[..., Any]:
    """The entry function of a kernel's file."""
    module = ModuleType(f"setting_{source.stem}")
    module.__file__ = str(source)
    sys.modules[module.__name__] = module
    exec(compile(source.read_text(), str(source), "exec"), module.__dict__)
    return getattr(module, entry)  # type: ignore[no-any-return]


def cut(text: str, begin: int = 200, end: int = 300) -> str:
    """A compiler's words without their middle: what it is stands first, the reason last."""
    return text if len(text) <= begin + end else f"{text[:begin]} … {text[-end:]}"


def inputs_of(space: Space, seed: int, device: str, sizes: dict[int, int] | None = None) -> tuple[Any, ...]:
    """Normally distributed inputs; weights as small as a network's."""
    generator = torch.Generator(device=device).manual_seed(seed)
    shapes = [tuple((sizes or {}).get(size, size) for size in shape) for shape in space.shapes]
    scales = [0.1 if name == "weight" and len(shape) > 1 else 1.0 for name, shape in zip(space.inputs, shapes, strict=True)]
    made = [torch.randn(shape, generator=generator, device=device) * scale for shape, scale in zip(shapes, scales, strict=True)]
    return tuple(value.to(getattr(torch, space.dtype)) for value in made)


def expected_of(space: Space, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The reference's outputs, in float32 or better throughout."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    wide = space.reference(*(value.float() for value in inputs))
    return wide if isinstance(wide, tuple) else (wide,)


def problem_of(outputs: Any, expected: Sequence[Any], dtype: str) -> str:
    """Nothing, or how far the outputs are from the reference's, in units of the root mean square."""
    got = outputs if isinstance(outputs, tuple) else (outputs,)
    for place, (one, other) in enumerate(zip(got, expected, strict=True)):
        if one.shape != other.shape:
            return f"INCORRECT_SHAPE: output {place}: expected {tuple(other.shape)}, got {tuple(one.shape)}"
        scale = other.square().mean().sqrt()
        error = ((one.float() - other).abs() / (other.abs() + scale)).max().item()
        allowed = 4 * torch.finfo(getattr(torch, dtype)).eps
        if not error <= allowed:
            return f"INCORRECT_NUMERICAL: output {place}: expected an error of at most {allowed:.1e}, got {error:.1e}"
    return ""


class Device:
    """Inputs, the reference's outputs and a clock."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._sets = [inputs_of(space, seed, "cuda") for seed in range(SETS)]
        self._expected = expected_of(space, self._sets[0])
        self._dirt = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
        self._stream = torch.cuda.Stream()
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        for _ in range(200):  # clocks rise
            self._dirt.zero_()
        torch.cuda.synchronize()

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What is asked for. Nothing raised here but what leaves the device unusable."""
        if question.get("about"):
            return about() | {"problem": ""}
        entry = loaded(Path(question["path"]), self._space.name)
        outputs = entry(*self._sets[0])
        torch.cuda.synchronize()
        problem = problem_of(outputs, self._expected, self._space.dtype)
        del outputs
        return {"problem": problem} if problem else {"problem": "", **self._timed(entry, int(question["samples"]))}

    def _timed(self, entry: Callable[..., Any], samples: int) -> dict[str, Any]:
        pool = torch.cuda.graph_pool_handle()
        graphs = [self._captured(entry, inputs, pool) for inputs in self._sets]
        times = [self._once(graphs[number % SETS]) for number in range(SETS)]
        count = samples if min(times) < LONG_US else FEW
        times = sorted(self._once(graphs[number % SETS]) for number in range(count))
        del graphs
        torch.cuda.empty_cache()  # the pool's memory
        quarter = len(times) // 4
        return {"us": median(times), "quartiles_us": [times[quarter], times[-1 - quarter]], "samples": count}

    def _captured(self, entry: Callable[..., Any], inputs: Sequence[Any], pool: Any) -> Any:
        """The call as a graph. Not through ``torch.cuda.graph``, which collects garbage each time."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=pool)
            try:
                entry(*inputs)
            finally:
                graph.capture_end()
        torch.cuda.synchronize()
        return graph

    def _once(self, graph: Any) -> float:
        """Microseconds of one replay."""
        start, stop = self._events
        self._dirt.zero_()
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop) * 1e3)


def about() -> dict[str, Any]:
    """Where this was measured."""
    import triton

    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "clock": "graph replayed, L2 written over before each, three input sets in turn",
    }


def serve(space: Space) -> None:
    """Answer until standard input ends. What a kernel raises is an answer; after a fault of the device's the process ends."""
    device = Device(space)
    print(json.dumps(about()), flush=True)
    for line in sys.stdin:
        try:
            answer = device.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001  whatever a setting raises is its result
            answer = {"problem": cut(f"{type(error).__name__}: {error}")}
        print(json.dumps(answer), flush=True)
        if answer["problem"] and not usable():
            return


def usable() -> bool:
    """Whether the device still works in this process."""
    try:
        torch.cuda.synchronize()
        torch.ones(1, device="cuda").item()
    except RuntimeError:
        return False
    return True


def interpret(space: Space, paths: Sequence[str]) -> None:
    """Compare settings with the reference on small inputs, in Triton's interpreter."""
    inputs = inputs_of(space, 0, "cpu", SMALL)
    expected = expected_of(space, inputs)
    for path in paths:
        problem = problem_of(loaded(Path(path), space.name)(*inputs), expected, space.dtype)
        print(f"{space.name} {Path(path).stem} interpreted: {problem or 'right'}")
        if problem:
            raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[2:3] == ["--interpret"]:
        interpret(named(sys.argv[1]), sys.argv[3:])
    else:
        serve(named(sys.argv[1]))
