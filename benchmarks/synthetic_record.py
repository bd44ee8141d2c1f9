"""A record as large as a team's: many kernels with cases, searches, lineages and prompts. The same for the same numbers."""

from __future__ import annotations

import hashlib
import random
from itertools import product

from kevolve.report.record import (
    Environment,
    Figure,
    Kernel,
    NodeRow,
    Properties,
    Record,
    Result,
    SearchRow,
    Side,
    Speedup,
    Times,
    Usage,
    Verdict,
)

_SHAPES = ((1024, 4096), (8192, 4096), (131072, 256), (262144, 128), (64, 128256))
_LINE = "    tile = tl.load(rows_ptr + offsets * stride, mask=offsets < cols, other=0.0).to(tl.float32)  # step {}"
_STATUSES = ("COMPILE_ERROR", "INCORRECT_NUMERICAL", "TIMEOUT")


def synthetic(kernels: int = 300, cases: int = 5, nodes: int = 20, *, lines: int = 120, seed: int = 0) -> Record:
    """``kernels`` with ``cases`` each (a few wrong, slow or not measured), searched in ``nodes`` steps over sources of ``lines``."""
    rng = random.Random(seed)
    sources: dict[str, str] = {}
    prompts: dict[str, str] = {}
    results, properties, searches, gate = [], [], [], []
    for number in range(kernels):
        spec = f"operator_{number:03d}_forward"
        target, language = ("cuda", "triton") if number % 3 else ("cpu", "cpp")
        search = _search(rng, spec, target, nodes, lines, sources, prompts)
        best = next(node for node in search.nodes if node.id == search.best)
        kernel = Kernel(path=f"suites/kernels/{spec}/{target}.py", hash=best.source)
        grid = list(product(_SHAPES, ("bfloat16", "float32")))[:cases]
        rows = [_result(rng, spec, target, language, shape, dtype, kernel) for shape, dtype in grid]
        results += rows
        searches.append(search)
        properties.append(Properties(spec=spec, target=target, language=language, status="PASSED", draws=2151, kernel=kernel))
        gate.append(_verdict(rng, rows[0]))
    environment = Environment(
        device="Accelerator One",
        arch="a1",
        date="2026-11-21T05:02:54+00:00",
        versions={"python": "3.12.3", "kevolve": "0.1.0"},
        commit="c0ffee" * 6,
        extra={"peaks": {"bandwidth": [[1e6, 9e12], [1e9, 4.1e12]], "operations": {"float32": 6e13, "bfloat16": 9e14}}},
    )
    return Record(
        environment=environment,
        results=tuple(results),
        properties=tuple(properties),
        gate=tuple(gate),
        searches=tuple(searches),
        sources=sources,
        prompts=prompts,
    )


def _kept(texts: dict[str, str], text: str) -> str:
    key = hashlib.sha256(text.encode()).hexdigest()
    texts[key] = text
    return key


def _search(
    rng: random.Random, spec: str, target: str, nodes: int, lines: int, sources: dict[str, str], prompts: dict[str, str]
) -> SearchRow:
    source = [_LINE.format(line) for line in range(lines)]
    made: list[NodeRow] = []
    best, line = 0, 0.0
    for id in range(1, nodes + 1):
        works = id == 1 or rng.random() < 0.6
        fitness = round(rng.uniform(0.7, 1.2) * (1 + id / 8), 3) if works else 0.0
        better = fitness > line
        if better:
            source = [*source[: id * 3], f"    # changed at step {id} of {spec}", *source[id * 3 + 1 :]]
        made.append(
            NodeRow(
                id=id,
                step=id,
                parents=() if id == 1 else (best,),
                operator="universal",
                model="model:one",
                idea=f"Hold two rows of a tile in registers and unroll by {id}",
                hypothesis="Fewer passes over memory",
                status="PASSED" if works else rng.choice(_STATUSES),
                message="" if works else f"line {id}: expected a tile of 128 columns",
                fitness=fitness,
                seconds=rng.uniform(3, 30),
                source=_kept(sources, "\n".join(source)) if better else "",
                prompt=_kept(prompts, f"Write {spec}, step {id}.\n" + "Rules, hardware, history.\n" * 200) if better else "",
                usage=Usage(input=1200 * id, cached=9000, output=1500, usd=0.02),
            )
        )
        if better:
            best, line = id, fitness
    return SearchRow(spec=spec, target=target, best=best, nodes=tuple(made))


def _result(rng: random.Random, spec: str, target: str, language: str, shape: tuple[int, int], dtype: str, kernel: Kernel) -> Result:
    status = rng.choices(("PASSED", "TOO_SLOW", "NOT_MEASURED", "INCORRECT_NUMERICAL"), (94, 3, 2, 1))[0]
    timed = status in ("PASSED", "TOO_SLOW")
    over = rng.uniform(1.3, 12) if status == "PASSED" else rng.uniform(0.7, 1.1)
    us, light = rng.uniform(3, 900), rng.uniform(0.05, 0.95)
    case = f"{shape[0]}-{shape[1]}-{dtype}"
    replay = f'pytest \'suites/test_{spec}.py::test_{spec}[properties]\' --kevolve-replay \'{{"values":{{"rows":1}},"seed":7}}\''
    worst = "3 of 37 elements differ, the worst at (0, 36): expected 1.25, got 0.0"
    message = {
        "TOO_SLOW": f"{over:.2f}x over eager, expected at least 1.20x",
        "NOT_MEASURED": "two workers share the cores (-n2): run with -n0 to time kernels here",
        "INCORRECT_NUMERICAL": f"{spec} at rows=1, cols=37\n{worst}\nreplay: {replay}",
    }.get(status, "")
    names = {"eager": over, "compile": over * rng.uniform(0.2, 0.8)}
    extra = {
        "values": {"rows": shape[0], "cols": shape[1], "dtype": dtype},
        "min_speedup": 1.2,
        "work": {"bytes": us * light * 4e6, "flops": us * light * 4e6 * rng.uniform(0.2, 60)},
        "resources": {"registers": 64, "spill_bytes": 0, "shared_bytes": 16384, "kernels": 1, "occupancy": 0.5},
    }
    return Result(
        spec=spec,
        case=case,
        target=target,
        language=language,
        status=status,
        message=message,
        time_us=Times(launched=us, replayed=0.98 * us) if timed else Times(),
        baseline_us={name: Times(launched=us * ratio, replayed=us * ratio) for name, ratio in names.items()} if timed else {},
        speedup={name: Speedup(estimate=ratio, low=0.97 * ratio, high=1.03 * ratio) for name, ratio in names.items()} if timed else {},
        floor_us=us * light if timed else None,
        speed_of_light=light if timed else None,
        pairs=7 if timed else None,
        method="7 process pairs x 3 palindromic rounds, 99% Student interval over pairs" if timed else None,
        kernel=kernel,
        extra=extra,
    )


def _verdict(rng: random.Random, row: Result) -> Verdict:
    said = rng.choices(("same", "faster", "slower", "grown"), (85, 8, 3, 4))[0]
    ratio = {"same": 1.0, "faster": 1.12, "slower": 0.88, "grown": 1.0}[said]
    where = "sm90 rows_kernel[bf16]"
    figures = (
        Figure(name="registers", where=where, old=64, new=96 if said == "grown" else 64, allowed=72),
        Figure(name="instructions", where=where, old=1800, new=1812, allowed=1890),
    )
    return Verdict(
        spec=row.spec,
        case=row.case,
        target=row.target,
        language=row.language,
        verdict=said,
        message=f"{said}: {ratio:.2f}x" if said in ("slower", "grown") else "",
        old=Side(path="a.py", hash="ab" * 32, revision="c0ffee", time_us=ratio * 40),
        new=Side(path="a.py", hash="cd" * 32, time_us=40.0),
        ratio=Speedup(estimate=ratio, low=0.995 * ratio, high=1.005 * ratio),
        figures=figures,
    )
