from __future__ import annotations

import json

import pytest

from kevolve.evaluate.outcome import Stage, Status
from kevolve.knowledge.diagnosis import diagnose
from kevolve.knowledge.terms import BOTTLENECKS
from kevolve.search.node import Graph
from kevolve.search.policies import Step
from tests.knowledge.trees import node, spec

GPU = {"name": "NVIDIA H200", "arch": "sm90"}
HOST = {"name": "AMD EPYC", "arch": "x86-64-v4"}


def diagnosed(*nodes, parents=None, memory="parent", device=GPU, facts=None, families=("normalisation",), language="triton"):
    step = Step(parents=(nodes[-1].id,) if parents is None else parents, memory=memory)
    return diagnose(Graph.of(nodes), step, spec=spec(), language=language, device=device, facts=facts or {}, families=families)


def wrong(*, values=None, worst=((0.5, 2.0),), differences=1, total=4, distribution="normal", layout="contiguous", message="", index=0):
    draw = json.dumps(
        {"values": values or {"rows": 2, "cols": 33, "dtype": "float32"}, "seed": 1, "distribution": distribution, "layout": layout}
    )
    places = [dict(index=[0, index], expected=expected, got=got, error=abs(got - expected)) for expected, got in worst]
    detail = {"draw": draw, "worst": places, "differences": differences, "total": total}
    return node(1, Status.INCORRECT_NUMERICAL, stage=Stage.PROPERTIES, message=message, detail=detail)


def timed(number=1, *, large=2.0, small=2.0, **fields):
    detail = {"speedups": {"large": large, "small": small}, **fields.pop("detail", {})}
    return node(number, fitness=(large * small) ** 0.5, detail=detail, **fields)


FACTS = {"cases": {"large": {"baseline_us": 100.0, "floor_us": 20.0}, "small": {"baseline_us": 100.0, "floor_us": 20.0}}}


def test_without_parents_it_is_a_draft_bounded_by_its_family():
    assert diagnosed(parents=()).phase == "draft"
    assert diagnosed(parents=(), families=("matmul",)).bottlenecks == ("compute",)
    assert diagnosed(parents=(), families=("pointwise",)).bottlenecks == ("memory",)


def test_a_draft_is_bounded_by_what_the_floors_are_made_of_where_they_are_known():
    cases = {name: {"floor_us": 20.0, "bound": bound} for name, bound in (("large", "memory"), ("wide", "memory"), ("small", "compute"))}
    found = diagnosed(parents=(), families=("matmul",), facts={"cases": cases})
    assert found.bottlenecks == ("memory",)
    assert "By their floors memory traffic bounds 2 of 3 cases, arithmetic bounds 1 of 3 cases." in found.summary


def test_a_draft_whose_cases_are_small_is_told_to_launch_once_and_not_to_save_traffic():
    cases = {name: {"floor_us": 1.0, "bound": bound} for name, bound in (("large", "latency"), ("wide", "launch"), ("small", "launch"))}
    found = diagnosed(parents=(), families=("search",), facts={"cases": cases})
    assert found.bottlenecks == ("launch",)
    assert found.directions[0].startswith("One launch")
    assert found.directions[1].startswith("Touch as few sectors")


@pytest.mark.parametrize("status, phase", [(Status.PASSED, "optimise"), (Status.NOT_MEASURED, "optimise"), (Status.COMPILE_ERROR, "debug")])
def test_the_phase_is_the_parents_state(status, phase):
    assert diagnosed(node(1, status)).phase == phase


@pytest.mark.parametrize(
    "status, stage, message, bottleneck, said",
    [
        (
            Status.COMPILE_ERROR,
            Stage.COMPILE,
            "k.cpp:3:5: error: ‘one’ was not declared in this scope",
            "compile",
            "The name `one` is not defined",
        ),
        (Status.COMPILE_ERROR, Stage.COMPILE, "NameError('tl.sigmoidal is not defined')", "compile", "is not defined"),
        (
            Status.COMPILE_ERROR,
            Stage.COMPILE,
            "x.cpp:1:1: error: cannot convert ‘__m256’ to ‘float’",
            "compile",
            "Types or shapes do not fit",
        ),
        (
            Status.COMPILE_ERROR,
            Stage.COMPILE,
            "does not compile for sm80: OutOfResources: f needs 295424 bytes of shared memory, sm80 has 166912 a block",
            "shared-memory",
            "needs 295424 bytes of shared memory, sm80 has 166912",
        ),
        (
            Status.RUNTIME_ERROR,
            Stage.SMOKE,
            "out of resource: shared memory, Required: 300000, Hardware limit: 232448",
            "shared-memory",
            "Hardware limit",
        ),
        (Status.RUNTIME_ERROR, Stage.SMOKE, "too many resources requested for launch", "registers", "more registers"),
        (Status.COMPILE_ERROR, Stage.COMPILE, "the compiler did not end within 60 s", "timeout", "Compiling did not end"),
        (Status.TIMEOUT, Stage.PROPERTIES, "no answer to 'run' within 60 s", "timeout", "did not end in time"),
        (Status.REWARD_HACK, Stage.POLICY, "line 3: torch.softmax is not among what a kernel may use", "policy", "It was refused: line 3"),
        (Status.SUSPECT, Stage.PAIRED, "1.2 us is faster than the speed of light", "policy", "faster than the device can be"),
        (
            Status.RUNTIME_ERROR,
            Stage.PROPERTIES,
            "killed by SIGSEGV (an access outside its memory)",
            "correctness",
            "reaches outside its memory",
        ),
        (Status.RUNTIME_ERROR, Stage.PROPERTIES, "wrote to input 0, which mutates= does not name", "correctness", "may only read"),
        (Status.RUNTIME_ERROR, Stage.SMOKE, "ValueError: expected a multiple of 8", "correctness", "It raised: ValueError"),
        (
            Status.INCORRECT_DTYPE,
            Stage.PROPERTIES,
            "output 1: expected dtype bfloat16, got float32",
            "correctness",
            "not of the right form",
        ),
        (Status.NO_CANDIDATE, Stage.PROPOSE, "the edit does not apply", "compile", "gave no kernel: the edit"),
    ],
)
def test_a_failure_is_named_by_what_its_message_says(status, stage, message, bottleneck, said):
    found = diagnosed(node(1, status, stage=stage, message=message, source="#include <x>\n"))
    assert found.bottlenecks[0] == bottleneck
    assert said in found.summary
    assert found.directions


@pytest.mark.parametrize(
    "outcome, bottleneck, said",
    [
        (wrong(), "correctness", "at an edge of its blocks or vectors (rows = 2, cols = 33)"),
        (wrong(message="9 draws fail, in the sweep at cols = 37, 101, 165, 229, …", values={"cols": 37}), "correctness", "at an edge"),
        (wrong(worst=((0.5, 3.3961514e38),)), "correctness", "never written"),
        (wrong(worst=((0.5, float("nan")),)), "precision", "NaN or infinity appears"),
        (wrong(worst=((1.0, 1.01),), values={"cols": 4, "dtype": "bfloat16"}), "precision", "too low a precision"),
        (wrong(layout="strided", values={"cols": 4}), "correctness", "on a strided input"),
        (wrong(values={"rows": 0, "cols": 4}), "correctness", "where a size is 0"),
        (wrong(values={"n": 4}, worst=((3, 4),)), "correctness", "one off"),
        (wrong(values={"cols": 4, "dtype": "float32"}, distribution="huge"), "precision", "on huge values only"),
        (wrong(values={"cols": 4, "dtype": "float32"}, differences=4), "correctness", "something else everywhere"),
        (
            wrong(message="right at first, and wrong when called again with the same inputs: …"),
            "synchronisation",
            "wrong when called again",
        ),
    ],
)
def test_a_wrong_result_is_named_by_its_counterexample(outcome, bottleneck, said):
    found = diagnosed(outcome)
    assert found.bottlenecks[0] == bottleneck
    assert said in found.summary.splitlines()[0]


def test_the_place_between_floor_and_clock_is_said():
    found = diagnosed(timed(), facts=FACTS)
    assert found.bottlenecks == ("memory",)
    assert "runs at 40% of the speed of light" in found.summary


def test_at_the_floor_there_is_little_left():
    assert "little left to gain" in diagnosed(timed(large=4.8, small=4.5), facts=FACTS).summary


def test_arithmetic_bounds_a_product_unless_the_floor_is_of_bytes():
    assert diagnosed(timed(), facts=FACTS, families=("matmul",)).bottlenecks[0] == "compute"
    cases = {case: {**known, "bound": "memory"} for case, known in FACTS["cases"].items()}
    assert diagnosed(timed(), facts={"cases": cases}, families=("matmul",)).bottlenecks[0] == "memory"


def test_a_short_call_is_bounded_by_its_launch():
    facts = {"cases": {"large": {"baseline_us": 100.0, "floor_us": 20.0}, "small": {"baseline_us": 12.0, "floor_us": 2.0}}}
    found = diagnosed(timed(), facts=facts)
    assert found.bottlenecks[0] == "launch"
    assert "small takes 6.0 us" in found.summary


@pytest.mark.parametrize(
    "resources, bottleneck",
    [({"registers": 255, "spill_bytes": 64, "occupancy": 0.125}, "registers"), ({"registers": 168, "occupancy": 0.19}, "occupancy")],
)
def test_what_the_compiler_says_of_the_kernel_is_used(resources, bottleneck):
    assert diagnosed(timed(detail={"resources": resources}), facts=FACTS).bottlenecks[0] == bottleneck


def test_cases_that_differ_are_named():
    assert "Cases differ: small 1.00x, large 3.00x, and 1.5x is asked for." in diagnosed(timed(large=3.0, small=1.0)).summary


CPP = "#include <cmath>\n// omp parallel\nvoid f() {\n  for (;;) y[i] = std::exp(x[i]);\n}\n"


def test_a_kernel_on_the_host_is_read_without_its_comments():
    found = diagnosed(timed(source=CPP), device=HOST, language="cpp")
    assert "It uses one thread." in found.summary
    assert "C library's functions element by element" in found.summary
    threaded = CPP.replace("// omp parallel", "#pragma omp parallel for simd")
    assert "one thread" not in diagnosed(timed(source=threaded), device=HOST, language="cpp").summary


def test_siblings_that_fail_alike_and_those_that_gain_nothing_are_said():
    failing = [node(number, Status.RUNTIME_ERROR, parents=(1,)) for number in (2, 3, 4)]
    assert "3 attempts from here ended RUNTIME_ERROR" in diagnosed(timed(), *failing, parents=(1,)).summary
    useless = [timed(number, large=1.9, parents=(1,), idea=f"unroll {number}") for number in (2, 3, 4)]
    assert "3 working attempts from here gained nothing: unroll 2; unroll 3; unroll 4" in diagnosed(timed(), *useless, parents=(1,)).summary


def test_what_was_tried_is_told_once_and_the_best_first():
    nodes = [
        timed(1, idea="two passes"),
        timed(2, large=3.0, small=3.0, parents=(1,), idea="one pass", predicted_gain=2.0),
        node(3, Status.COMPILE_ERROR, parents=(1,), idea="wide loads", message="a.py:3: error: no such thing"),
        node(4, Status.COMPILE_ERROR, parents=(1,), idea="wide loads", message="a.py:3: error: no such thing"),
    ]
    told = diagnosed(*nodes, parents=(1,), memory="both").tried
    assert told == (
        "one pass: 3.00x (2.00x of its parent was predicted)",
        "two passes: 2.00x",
        "wide loads: does not compile: a.py:3: error: no such thing",
    )


@pytest.mark.parametrize(
    "memory, seen", [("parent", {"idea 1", "idea 2"}), ("siblings", {"idea 3"}), ("both", {"idea 1", "idea 2", "idea 3"})]
)
def test_a_memory_mode_decides_what_is_told(memory, seen):
    nodes = [timed(1), timed(2, parents=(1,)), timed(3, parents=(2,)), timed(4)]
    assert {line.partition(":")[0] for line in diagnosed(*nodes, parents=(2,), memory=memory).tried} == seen


def test_a_restart_begins_as_a_draft_and_knows_what_everybody_tried():
    found = diagnosed(timed(1), timed(2, parents=(1,)), parents=(2,), memory="restart")
    assert found.phase == "draft"
    assert len(found.tried) == 2


def test_it_reads_as_markdown():
    assert diagnosed(wrong()).render() == (
        "Phase: debug, triton on nvidia sm90, normalisation.\n\n"
        "Bounded by: correctness.\n\n"
        "It fails at an edge of its blocks or vectors (rows = 2, cols = 33): [0, 0] expected 0.5, got 2.\n\n"
        "Tried so far, best first:\n"
        "- idea 1: wrong at rows = 2, cols = 33, dtype = float32, normal, contiguous\n\n"
        "To try:\n"
        "1. Mask loads with the neutral element of what follows, and count the real size, not the block's.\n"
        "2. Handle the remainder after whole vectors; loop where the row is longer than the block."
    )


def test_every_bottleneck_is_of_the_known_words():
    outcomes = [node(1, status, message="error") for status in Status]
    assert {word for outcome in outcomes for word in diagnosed(outcome).bottlenecks} <= set(BOTTLENECKS)
