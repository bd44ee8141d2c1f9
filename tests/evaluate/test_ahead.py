"""Compiling a candidate's specialisations in a confined child, with no device: what is kept, what is said, what hostile ones get."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve import registry, sizes
from kevolve.evaluate.ahead import Shapes, architecture, compile_ahead, shapes
from kevolve.evaluate.build import build
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Limits, Workers
from kevolve.evaluate.contents import case_pool
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import of_draws
from kevolve.languages.triton import Triton
from kevolve.spec.spec import Case
from kevolve.targets.cpu import CPU
from tests.evaluate.example_specs import draw, rms_norm_spec, spec_of, total

KERNEL = (Path(__file__).parents[1] / "languages" / "rms_norm_triton.py").read_text()
ENTRY = "def rms_norm(x, weight):\n"
SPEC = rms_norm_spec()
CASE = Case(id="case", values=dict(rows=8192, cols=4096, dtype="bfloat16"))
DRAWS = of_draws(SPEC, [draw(rows=rows, cols=cols, dtype="float32") for rows, cols in ((1, 1), (3, 16), (3, 37), (5, 16))])
ARCH = "sm90"


@pytest.fixture(scope="module")
def gpu() -> Any:
    """The target, whether or not its device is here: compiling needs none."""
    return registry.load("targets", "cuda")


@pytest.fixture(scope="module")
def ahead_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    limits = Limits(memory_bytes=4 << 30, processes=24)
    with Workers(sys_path=sys.path, scratch=tmp_path_factory.mktemp("ahead"), limits=limits) as made:
        yield made


@pytest.fixture
def compiled(ahead_workers: Workers, gpu: Any, tmp_path: Path) -> Callable[..., Candidate | Outcome]:
    """``compiled(source)``: the text, which no policy has seen, compiled ahead."""

    def made(source: str, *, deadline_s: float = 60.0, spec: Any = SPEC, wanted: Shapes | None = None) -> Candidate | Outcome:
        built = Triton().build(source, entry=spec.name, target=gpu, cache=tmp_path, timeout_s=9)
        candidate = Candidate(name=spec.name, language="triton", entry=spec.name, source=source, artifact=built.artifact)
        shaped = wanted or shapes(spec, [CASE], DRAWS)
        return compile_ahead(ahead_workers, spec, candidate, shaped, target=gpu, arch=ARCH, deadline_s=deadline_s, jobs=2)

    return made


def hostile(body: str, *, before: str = "") -> str:
    """The kernel with statements at the start of its entry, and others at import."""
    return KERNEL.replace(ENTRY, f"{before}\n{ENTRY}    {body}\n")


# --- what is compiled ---


def test_the_specialisations_of_cases_and_draws_are_compiled_and_say_what_they_need(compiled: Callable[..., Any]) -> None:
    found = compiled(KERNEL)
    assert isinstance(found, Candidate)
    assert found.ahead == "4 kernels compiled ahead"  # (5, 16) is specialised as (3, 16)
    assert found.resources["kernels"] == 4
    assert 16 <= found.resources["registers"] <= 255
    assert found.resources["spill_bytes"] == 0
    assert 0 < found.resources["occupancy"] <= 1
    assert found.said == {"resources": found.resources, "ahead": found.ahead}


def test_the_text_passes_the_policy(gpu: Any, tmp_path: Path) -> None:
    assert isinstance(build(KERNEL, "triton", spec=SPEC, target=gpu, cache=tmp_path, timeout_s=9), Candidate)


def test_what_was_compiled_is_found_again_without_a_child(compiled: Callable[..., Any], gpu: Any) -> None:
    found = compiled(KERNEL)
    nobody: Any = None
    again = compile_ahead(nobody, SPEC, found, shapes(SPEC, [CASE], DRAWS), target=gpu, arch=ARCH, deadline_s=1, jobs=1)
    assert again == replace(found, ahead="compiled before")


def test_other_shapes_are_kept_beside_the_first(compiled: Callable[..., Any]) -> None:
    first = compiled(KERNEL)
    assert compiled(KERNEL, wanted=shapes(SPEC, [], DRAWS)).resources["kernels"] == 3
    assert len(list(first.artifact.parent.glob(f"{first.artifact.stem}.{ARCH}.*.zip"))) == 2


def test_an_entry_that_reads_data_is_left_to_its_first_launch(compiled: Callable[..., Any]) -> None:
    found = compiled(hostile("x.sum().item()"))
    assert found.ahead == "0 kernels compiled ahead; what else it launches is compiled then: it reads data (.item() or the like)"
    assert found.resources == {}


def test_an_entry_that_raises_on_fakes_is_left_to_the_real_call(compiled: Callable[..., Any]) -> None:
    found = compiled(hostile("raise ValueError('only on Tuesdays')"))
    assert found.ahead.endswith("ValueError: only on Tuesdays")


def test_a_kernel_that_is_launched_again_by_hand_is_compiled_once(compiled: Callable[..., Any]) -> None:
    launch = "normalise[(x.shape[0],)]("
    assert launch in KERNEL
    kept = KERNEL.replace(launch, f"kept = {launch}").replace("    return out\n", "    kept[(1,)](x, out)\n    return out\n")
    assert compiled(kept).ahead == "4 kernels compiled ahead"


def tuned(*choices: str) -> str:
    configs = ", ".join(f"triton.Config({{}}, {choice})" for choice in choices)
    text = KERNEL.replace("@triton.jit", f'@triton.autotune([{configs}], key=["cols"])\n@triton.jit')
    return text.replace(", num_warps=4)\n    return", ")\n    return")


def test_all_choices_of_an_autotuner_are_compiled(compiled: Callable[..., Any]) -> None:
    found = compiled(tuned("num_warps=4", "num_warps=8"), wanted=shapes(SPEC, [CASE], None))
    assert found.ahead == "2 kernels compiled ahead"


def test_a_choice_that_the_autotuner_would_pass_over_is_no_error(compiled: Callable[..., Any]) -> None:
    asserted = KERNEL.replace("    at = tl.arange", "    tl.static_assert(WIDE == 0)\n    at = tl.arange").replace(
        "BLOCK: tl", "WIDE: tl.constexpr, BLOCK: tl"
    )
    choices = '@triton.autotune([triton.Config({"WIDE": 0}), triton.Config({"WIDE": 1})], key=["cols"])\n@triton.jit'
    source = asserted.replace("@triton.jit", choices).replace(", num_warps=4)\n    return", ")\n    return")
    found = compiled(source, wanted=shapes(SPEC, [CASE], None))
    assert found.ahead == "1 kernel compiled ahead"


# --- what the compiler refuses ---


def test_a_kernel_that_does_not_compile_is_refused_with_its_line(compiled: Callable[..., Any]) -> None:
    outcome = compiled(KERNEL.replace("+ epsilon", "+ epsilonn"))
    assert (outcome.status, outcome.stage) == (Status.COMPILE_ERROR, Stage.COMPILE)
    assert outcome.message.startswith("does not compile for sm90: CompilationError: at ")
    assert outcome.message.endswith("NameError('epsilonn is not defined')")


def test_a_choice_that_no_compiler_takes_is_refused(compiled: Callable[..., Any]) -> None:
    outcome = compiled(tuned("num_warps=4", "num_warps=4, num_ctas=3"), wanted=shapes(SPEC, [CASE], None))
    assert outcome.status is Status.COMPILE_ERROR


def test_more_shared_memory_than_there_is_is_refused(compiled: Callable[..., Any]) -> None:
    product = """
@triton.jit
def product(x, out):
    at = tl.arange(0, 256)
    place = at[:, None] * 256 + at[None, :]
    total = tl.zeros((256, 256), tl.float32)
    for _ in range(8):
        total += tl.dot(tl.load(x + place), tl.load(x + place))
        x += 65536
    tl.store(out + place, total)
"""
    source = hostile("product[(1,)](x.contiguous(), torch.empty_like(x), num_warps=8, num_stages=3)", before=product)
    outcome = compiled(source, wanted=shapes(SPEC, [CASE], None))
    assert outcome.status is Status.COMPILE_ERROR
    assert "product needs" in outcome.message
    assert outcome.message.endswith("bytes of shared memory, sm90 has 232448 a block")


# --- candidates that mean harm ---


@pytest.mark.parametrize("where", ["at import", "in the entry"])
def test_an_endless_loop_ends_at_the_deadline(compiled: Callable[..., Any], where: str) -> None:
    loop = "while True: pass"
    began = time.monotonic()
    outcome = compiled(hostile(loop) if where == "in the entry" else hostile("pass", before=loop), deadline_s=3)
    assert (outcome.status, outcome.stage) == (Status.TIMEOUT, Stage.COMPILE)
    assert time.monotonic() - began < 15
    missing = "answer to" if where == "at import" else "progress in"
    assert outcome.message == f"compiling ahead for sm90: no {missing} 'ahead' within 3 s"


def test_a_process_that_ends_is_an_error_of_the_candidate(compiled: Callable[..., Any]) -> None:
    outcome = compiled(hostile("os._exit(3)", before="import os"))
    assert (outcome.status, outcome.stage) == (Status.RUNTIME_ERROR, Stage.COMPILE)
    assert outcome.message == "compiling ahead for sm90: exited with code 3 without a result"


def test_processes_without_end_are_ended(compiled: Callable[..., Any]) -> None:
    outcome = compiled(hostile("[os.fork() or time.sleep(60) for _ in range(64)]; time.sleep(60)", before="import os, time"), deadline_s=20)
    assert (outcome.status, outcome.stage) == (Status.RUNTIME_ERROR, Stage.COMPILE)
    assert "processes, the limit is 24" in outcome.message


def test_it_writes_nothing_outside_its_scratch_folder(compiled: Callable[..., Any], tmp_path: Path) -> None:
    """Neither a file of somebody's, nor another candidate's binaries."""
    other = compiled(KERNEL)
    (kept,) = other.artifact.parent.glob(f"{other.artifact.stem}.*.zip")
    before = kept.read_bytes()
    found = compiled(hostile(f"open({str(kept)!r}, 'wb').write(b'poison')"))
    if "0 kernels" not in found.ahead:
        pytest.skip("this kernel has no Landlock")
    assert "PermissionError" in found.ahead
    assert kept.read_bytes() == before


@pytest.mark.parametrize("forged", ["b'no archive'", "_zip('../../evil.cubin')", "_zip('A' * 52 + '/__grp__x.py')"])
def test_a_forged_archive_is_refused(compiled: Callable[..., Any], forged: str) -> None:
    before = f"""
import io, zipfile
import kevolve.languages.triton_binaries as binaries
def _zip(name):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(name, "evil")
    return made.getvalue()
binaries.pack = lambda *_: {forged}
"""
    outcome = compiled(hostile("pass", before=before))
    assert (outcome.status, outcome.stage) == (Status.RUNTIME_ERROR, Stage.COMPILE)
    assert outcome.message.startswith("the process that compiled it left no archive of kernels: ")


def test_forged_binaries_say_nothing_of_their_needs(compiled: Callable[..., Any]) -> None:
    before = """
import kevolve.languages.triton_binaries as binaries
inner = binaries.pack
def pack(folder, keys, timed):
    for path in folder.glob("*/*.cubin"):
        path.write_bytes(path.read_bytes()[:200])
    return inner(folder, keys, timed)
binaries.pack = pack
"""
    assert compiled(hostile("pass", before=before)).resources == {}


# --- what needs no compiling ---


def test_a_target_without_architectures_has_nothing_to_compile_for() -> None:
    assert architecture(CPU()) is None


def test_a_candidate_in_a_compiled_language_comes_back_as_it_is(gpu: Any, tmp_path: Path) -> None:
    nobody: Any = None
    candidate = Candidate(name="it", language="cpp", entry="it", artifact=tmp_path / "it.so")
    wanted = shapes(SPEC, [CASE], DRAWS)
    assert compile_ahead(nobody, SPEC, candidate, wanted, target=gpu, arch=ARCH, deadline_s=1, jobs=1) is candidate


def test_shapes_are_told_once_and_large_draws_are_not_made_for_them() -> None:
    plan = of_draws(SPEC, [draw(rows=8192, cols=4096, dtype="bfloat16"), draw(rows=4096, cols=8192, dtype="float32", layout="strided")])
    wanted = shapes(SPEC, [CASE], plan)
    assert wanted == Shapes(layouts=([["bfloat16", [8192, 4096], [4096, 1], 0], ["bfloat16", [4096], [1], 0]],), timed=1)


def test_what_a_function_makes_is_taken_from_the_contents_that_are_there() -> None:
    made: list[int] = []

    def lists(values: Any, generator: torch.Generator) -> Any:
        made.append(values["rows"])
        return torch.rand(8, values["rows"], generator=generator).t()[1:], torch.rand(0, 3), values["rows"]

    spec = spec_of(total, lambda rows: lists, vary=dict(rows=sizes(1, 9)))
    case = Case(id="4", values={"rows": 4})
    with case_pool(spec, case, seed=1) as pool:
        made.clear()
        wanted = shapes(spec, [case], None, pools=lambda asked: pool)
        assert made == []
    assert wanted == shapes(spec, [case], None)
    assert wanted.layouts == ([["float32", [3, 8], [1, 4], 1], ["float32", [0, 3], [3, 1], 0], {"value": 4}],)
