"""A spec is admitted where every impostor fails under its own inputs and tolerance, and refused by name where one passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve.evaluate import admission as module
from kevolve.evaluate.admission import Admission, admission, admit
from kevolve.evaluate.impostors import Subject, impostors
from kevolve.evaluate.oracle import ReferenceFailed
from kevolve.evaluate.trial import Trial
from kevolve.spec.admits import IMPOSTORS, admits_problems
from kevolve.spec.comparators import index_of
from kevolve.spec.domain import sizes
from kevolve.spec.inputs import Tensor
from kevolve.spec.spec import Case, Draw, Spec
from tests.evaluate import impostor_references as references
from tests.evaluate.example_specs import add_to, rms_norm, spec_of, total

ROWS_AND_COLS = dict(rows=sizes(0, 4096), cols=sizes(1, 8192))


def matrix(rows: int, cols: int, dtype: str = "float32", **bounds: Any) -> Any:
    return (Tensor(rows, cols, dtype=dtype, **bounds),)


def spec_for(reference: Any, describe: Any = matrix, **options: Any) -> Spec:
    """A spec with a case of its own."""
    values = {"rows": 512, "cols": 300}
    made = spec_of(reference, describe, vary=options.pop("vary", ROWS_AND_COLS), choices=options.pop("choices", {}), **options)
    return replace(made, cases=(Case(id="512-300", values=options.get("values", values)),), hash=f"spec of {reference.__name__}")


def good() -> Spec:
    def describe(rows: int, cols: int) -> Any:
        return Tensor(rows, cols), Tensor(cols)

    return spec_for(rms_norm, describe)


def passing(found: Admission) -> list[str]:
    return [survivor.impostor for survivor in found.survivors]


# --- a good spec ---


@pytest.fixture(scope="module")
def of_a_good_spec() -> Admission:
    return admit(good())


@pytest.mark.parametrize("name", [*(name for name in IMPOSTORS if name != "zero gradient"), "input 0", "input 1"])
def test_a_good_spec_refuses_every_impostor(of_a_good_spec: Admission, name: str) -> None:
    assert name in of_a_good_spec.refused
    assert of_a_good_spec.problem is None
    assert of_a_good_spec.not_applicable == {"zero gradient": "the output is no gradient"}


def test_a_gradient_of_zeros_is_refused() -> None:
    found = admit(spec_for(references.normalised, grad=("x",)))
    assert found.problem is None
    assert "zero gradient of output 1" in found.refused
    assert found.not_applicable["zero gradient of output 0"] == "the output is no gradient"


def test_an_input_that_should_have_been_written_to_and_was_not_is_refused() -> None:
    def describe(rows: int, cols: int) -> Any:
        return Tensor(rows, cols), Tensor(rows, cols)

    found = admit(spec_for(add_to, describe, mutates=("state",)))
    assert found.problem is None
    assert "input 0" in found.refused


def test_a_16_bit_accumulator_is_refused_where_sums_are_long_enough_to_show_it() -> None:
    found = admit(spec_for(total, lambda rows, cols: matrix(rows, cols, dtype="bfloat16")))
    assert found.problem is None
    assert "lower accumulation" in found.refused


def test_every_output_is_tried_alone() -> None:
    found = admit(spec_for(references.scaled_and_ones))
    assert passing(found) == [f"{name} of output 1" for name in ("constant", "mean", "row mean", "replay", "prefix")]


def test_integers_are_tried_too_and_what_cannot_be_is_named_with_its_reason() -> None:
    found = admit(spec_for(references.counted, lambda rows, cols: matrix(rows, cols, dtype="int64", low=0, high=1000)))
    assert found.problem is None
    assert {"zeros", "replay", "half", "input 0"} <= found.refused.keys()
    assert found.not_applicable["lower accumulation"] == "the output is no floating number"
    assert found.not_applicable["wrong axis"] == "no axis is told from another"
    assert found.not_applicable["sampled prefix"] == "no floating input has several elements in a row"


def test_indices_are_tried_through_their_comparator() -> None:
    found = admit(spec_for(references.best, compare={0: index_of(references.itself)}))
    assert found.problem is None
    assert {"zeros", "constant", "replay", "wrong axis"} <= found.refused.keys()


def test_pools_are_sums_over_a_window() -> None:
    spec = spec_for(references.pooled, vary=dict(rows=sizes(1, 64), cols=sizes(8, 512)))
    found = admit(spec)
    assert found.problem is None
    assert "lower accumulation" in found.refused


def test_draws_on_which_an_impostor_happens_to_be_right_do_not_count_for_it() -> None:
    """One row of one column: its sum is the input. On other draws the input has not even the output's shape."""
    spec = spec_for(total)
    trial = Trial(spec)
    trial.look(Draw(values={"rows": 1, "cols": 1}, seed=1))
    assert "input 0" in [label for label, _ in trial._left()]
    trial.look(Draw(values={"rows": 4, "cols": 3}, seed=1))
    assert "input 0" in trial.refused()


# --- weak specs ---


def test_a_huge_tolerance_is_refused_and_told_apart_from_what_the_derived_one_would_refuse() -> None:
    found = admit(replace(spec_for(references.normalised), tolerance=0.9))
    assert "halved" in passing(found)
    said = found.problem or ""
    assert "impostor 'halved': half of every element" in said
    assert "tolerance there: 0.9 of the output's scale" in said
    assert "to strengthen the spec: leave tolerance=0.9 out: the derived one (" in said
    assert '{"values":{"' in said, "the draw is named"


def test_inputs_that_are_never_negative_cannot_tell_relu_from_the_identity() -> None:
    found = admit(spec_for(references.relu, lambda rows, cols: matrix(rows, cols, low=0.0, high=1.0)))
    assert passing(found) == ["input 0"]
    assert found.problem is not None
    assert "the input 'x' passed through" in found.problem
    assert "to strengthen the spec: let the input 'x' have both signs" in found.problem
    assert admit(spec_for(references.relu)).problem is None


def test_a_constant_output_is_refused() -> None:
    found = admit(spec_for(references.nothing))
    assert {"zeros", "constant", "mean", "replay"} <= set(passing(found))
    assert "of the output's scale" in (found.problem or "")


def test_a_gradient_that_is_always_zero_is_refused() -> None:
    found = admit(spec_for(references.detached, grad=("x",)))
    assert "zero gradient of output 1" in passing(found)


def test_an_output_that_every_draw_excludes_is_refused_as_nothing_could_be_tried_on_it() -> None:
    found = admit(spec_for(references.vanishing, vary=dict(rows=sizes(1, 8), cols=sizes(2, 64))))
    assert found.tried == 0
    assert "  output 0 was excluded on all " in (found.problem or "")
    assert "so that any values pass: the reference itself errs by" in (found.problem or "")


def test_without_sizes_to_vary_the_advice_says_so() -> None:
    spec = spec_for(references.nothing, vary={}, choices={"rows": (8,), "cols": (8,)})
    assert "let sizes vary (vary=dict(n=sizes(low, high)))" in (admit(replace(spec, cases=spec.cases)).problem or "")


def test_bfloat16_sums_pass_a_tolerance_that_is_too_wide_for_float32() -> None:
    assert "lower accumulation" in passing(admit(replace(spec_for(references.totals), tolerance=0.2)))


def test_a_reference_that_refuses_every_draw_is_said_to() -> None:
    with pytest.raises(ReferenceFailed, match="never"):
        admit(spec_for(references.refusing))


# --- the way out ---


def test_a_spec_whose_answer_is_its_input_says_why_and_is_admitted() -> None:
    spec = spec_for(references.same)
    assert passing(admit(spec)) == ["input 0"]
    assert '    or, if a right kernel looks like that: admits={"input 0": "the reason"}' in (admit(spec).problem or "")
    found = admit(replace(spec, admits={"input 0": "it measures a copy"}))
    assert found.problem is None
    assert found.admitted == {"input 0": "it measures a copy"}
    assert found.tried == len(found.refused) + 1


def test_a_way_out_for_one_output_is_none_for_another() -> None:
    everything = ("constant", "mean", "row mean", "replay", "prefix")
    spec = spec_for(references.scaled_and_ones)
    assert admit(replace(spec, admits={f"{name} of output 1": "ones" for name in everything})).problem is None
    assert admit(replace(spec, admits={f"{name} of output 0": "ones" for name in everything})).problem is not None


def test_admits_names_an_impostor_and_a_reason() -> None:
    assert not list(admits_problems({"input 3": "a copy", "zeros of output 1": "a mask that is never set"}))
    (unknown,) = admits_problems({"identity": "a copy"})
    assert unknown.startswith("admits: expected one of zeros, constant")
    assert unknown.endswith("got 'identity'")
    assert list(admits_problems({"zeros": " "})) == ["admits 'zeros': expected the reason why a right kernel looks like that, got ' '"]
    assert list(admits_problems(["zeros"])) == ["admits: expected reasons by impostor, got ['zeros']"]


# --- the cache ---


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def counting(spec: Spec) -> Admission:
        seen.append(spec.hash)
        return admit(spec)

    monkeypatch.setattr(module, "admit", counting)
    return seen


def test_an_answer_is_kept_by_the_specs_hash(tmp_path: Path, counted: list[str]) -> None:
    spec = good()
    first, again = admission(spec, tmp_path), admission(spec, tmp_path)
    assert first == again
    assert counted == [spec.hash]
    admission(replace(spec, hash="another"), tmp_path)
    assert counted == [spec.hash, "another"]
    admission(replace(spec, tolerance=0.001), tmp_path)
    assert len(counted) == 3, "an option's value may come from a module that the hash does not cover"


def test_a_refusal_is_kept_with_its_message(tmp_path: Path, counted: list[str]) -> None:
    spec = spec_for(references.same)
    assert admission(spec, tmp_path).problem == admission(spec, tmp_path).problem is not None
    assert len(counted) == 1


def test_answers_found_under_other_rules_are_not_believed(tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    admission(good(), tmp_path)
    monkeypatch.setattr(module, "_rules", lambda: "other rules")
    admission(good(), tmp_path)
    assert len(counted) == 2


def test_a_file_that_is_no_answer_is_replaced(tmp_path: Path, counted: list[str]) -> None:
    found = admission(good(), tmp_path)
    (file,) = (tmp_path / "admission").iterdir()
    file.write_text('{"draws": 1}')
    assert admission(good(), tmp_path) == found
    assert json.loads(file.read_text())["draws"] == found.draws
    assert len(counted) == 2


# --- the impostors themselves ---


def subject(right: torch.Tensor, inputs: tuple[Any, ...] = (), **options: Any) -> Subject:
    given: dict[str, Any] = dict(replayed=None, learnt=0.5, again=lambda *_: right, gradient=False, seed=1) | options
    return Subject(right=right, inputs=inputs, **given)


def test_an_impostor_gives_what_it_says() -> None:
    right = torch.arange(1.0, 41.0).reshape(2, 20)
    other = -right
    given = subject(right, (right * 2, torch.ones(20)), replayed=other)
    made = {name: impostor(given) for name, impostor in impostors(2).items()}
    assert isinstance(made["half"], torch.Tensor)
    assert made["half"].flatten().tolist() == [*range(1, 21), *[0] * 20]
    assert made["prefix"].flatten().tolist() == [*range(1, 21), *range(-21, -41, -1)]  # type: ignore[union-attr]
    assert made["last tile"].flatten().tolist() == [*range(1, 33), *[0] * 8]  # type: ignore[union-attr]
    assert torch.equal(made["halved"], right / 2)  # type: ignore[arg-type]
    assert torch.equal(made["mean"], torch.full((2, 20), 20.5))  # type: ignore[arg-type]
    assert torch.equal(made["row mean"], right.mean(-1, keepdim=True).expand(2, 20))  # type: ignore[arg-type]
    assert torch.equal(made["constant"], torch.full((2, 20), 0.5))  # type: ignore[arg-type]
    assert torch.equal(made["input 0"], right * 2)  # type: ignore[arg-type]
    assert torch.equal(made["input 1"], torch.ones(2, 20)), "broadcast"  # type: ignore[arg-type]
    assert made["replay"] is other


def test_a_reference_that_adds_in_another_order_every_time_is_not_told_to_read_what_it_does_not() -> None:
    orders = iter(range(100))
    right = torch.ones(4)

    def again(*_: Any) -> torch.Tensor:
        return right + torch.finfo(torch.float32).eps * (next(orders) % 3)

    assert isinstance(impostors(1)["sampled prefix"](subject(right, (torch.arange(8.0),), again=again)), str)
    fixed = subject(right, (torch.arange(8.0),), again=lambda inputs, *_: inputs[0][..., 4:])
    assert isinstance(impostors(1)["sampled prefix"](fixed), torch.Tensor)


def test_impostors_leave_the_right_answer_alone() -> None:
    right = torch.arange(1.0, 41.0).reshape(2, 20)
    before = right.clone()
    for impostor in impostors(1).values():
        impostor(subject(right, (right,), replayed=right.clone()))
    assert torch.equal(right, before)
