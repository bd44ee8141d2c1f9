"""A declaration becomes a spec, or a list of every problem at once."""

from __future__ import annotations

import pytest
import torch

from kevolve.spec.declaration import DeclarationError, build_spec, kernel
from kevolve.spec.domain import choices, sizes
from kevolve.spec.inputs import Jagged, Tensor
from kevolve.spec.spec import Case, Draw, decode


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def scaled(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * weight


class Scale(torch.nn.Module):
    def __init__(self, cols: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(cols))
        self.register_buffer("shift", torch.zeros(cols))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight + self.shift


class Banded(torch.nn.Module):
    def __init__(self, cols: int, bands: int, eps: float = 1e-6, **extra: object) -> None:
        super().__init__()
        if cols % bands:
            raise ValueError(f"{cols} is no multiple of {bands}")
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(cols // bands))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight.mean() + self.eps


CASE = Case(id="4", values={"n": 4})


def problems(function, *, cases=(CASE,)) -> tuple[str, ...]:
    with pytest.raises(DeclarationError) as caught:
        build_spec(function, nodeid="test_x.py::test_x", cases=cases)
    return caught.value.problems


def test_a_correct_declaration_becomes_a_spec() -> None:
    @kernel(double, min_speedup=1.5, vary={"n": sizes(0, 64)})
    def test_double(n: int):
        return Tensor(n)

    spec = build_spec(test_double, nodeid="t.py::test_double", cases=[CASE])
    assert (spec.name, spec.min_speedup, spec.reference.inputs) == ("double", 1.5, ("x",))
    assert spec.describe(n=3) == (Tensor(3),)
    assert spec.choices == {}


def test_arguments_that_vary_does_not_name_use_every_parametrised_value() -> None:
    @kernel(double)
    def test_double(n: int, dtype: str):
        return (Tensor(n, dtype=dtype),)

    cases = [Case(id=f"{n}-{d}", values={"n": n, "dtype": d}) for n in (4, 8) for d in ("float32", "float16")]
    spec = build_spec(test_double, nodeid="t", cases=cases)
    assert spec.choices == {"n": (4, 8), "dtype": ("float32", "float16")}


def test_every_problem_is_reported_at_once_with_expected_and_got() -> None:
    @kernel(
        lambda x: x,
        min_speedup=-1,
        vary={"rows": sizes(0, 4), "n": sizes(9, 1)},
        baseline=("eager", "fastest"),
        targets=("quantum",),
        languages=("cobol",),
        tolerance=3.0,
        kernel="mypkg.ops",
    )
    def test_x(n: int):
        return Tensor(n)

    assert [problem.split(":")[0] for problem in problems(test_x)] == [
        "reference",
        "vary",
        "vary 'n'",
        "min_speedup",
        "tolerance",
        "unknown baseline",
        "unknown target",
        "unknown language",
        "kernel",
    ]
    assert all("expected" in problem and "got" in problem for problem in problems(test_x))


def test_an_unknown_dtype_is_reported_once_with_the_cases_it_concerns() -> None:
    @kernel(double)
    def test_x(n: int):
        return Tensor(n, dtype="float31")

    (problem,) = problems(test_x, cases=[CASE, Case(id="8", values={"n": 8})])
    assert problem.startswith("input 0: unknown dtype: expected one of float64")
    assert problem.endswith("got 'float31' (cases 4, 8)")


def test_no_cases_is_a_problem() -> None:
    @kernel(double)
    def test_x(n: int):
        return Tensor(n)

    assert problems(test_x, cases=()) == ("cases: expected at least one, from pytest.mark.parametrize; got none for this target",)


def test_a_wrong_number_of_inputs_is_a_problem() -> None:
    @kernel(scaled)
    def test_x(n: int):
        return Tensor(n)

    assert problems(test_x) == ("inputs: expected 2, one for each of the reference's, got 1 (case 4)",)


def test_a_jagged_input_counts_as_lengths_and_values() -> None:
    @kernel(scaled)
    def test_x(n: int):
        return Jagged(rows=n, max_length=3)

    assert build_spec(test_x, nodeid="t", cases=[CASE]).reference.inputs == ("x", "weight")


def test_an_argument_without_a_value_is_a_problem() -> None:
    @kernel(double, vary={"m": choices(1, 2)})
    def test_x(n: int, m: int):
        return Tensor(n, m)

    assert "argument 'm' of the test function: expected to be parametrised, got no value" in problems(test_x)


def test_grad_must_name_inputs_of_the_reference() -> None:
    @kernel(double, grad=("y",), mutates=("x",), constant=("z",))
    def test_x(n: int):
        return Tensor(n)

    assert problems(test_x) == (
        "unknown grad= input: expected one of x, got 'y'",
        "unknown constant= input: expected one of x, got 'z'",
    )


def test_a_module_class_has_its_parameters_and_buffers_as_inputs_by_name() -> None:
    @kernel(Scale)
    def test_x(cols: int):
        return Tensor(2, cols), Tensor(cols), Tensor(cols)

    spec = build_spec(test_x, nodeid="t", cases=[Case(id="4", values={"cols": 4})])
    assert spec.reference.inputs == ("x", "weight", "shift")
    from kevolve.spec.reference import resolve

    x, weight, shift = torch.randn(2, 4), torch.randn(4), torch.randn(4)
    assert torch.equal(resolve(spec.reference, {"cols": 4})(x, weight, shift), x * weight + shift)


def test_the_hash_changes_with_the_declaration() -> None:
    def hash_of(speedup: float) -> str:
        if speedup == 1:

            @kernel(double, min_speedup=1.0)
            def test_x(n: int):
                return Tensor(n)
        else:

            @kernel(double, min_speedup=2.0)
            def test_x(n: int):
                return Tensor(n)

        return build_spec(test_x, nodeid="t", cases=[CASE]).hash

    assert hash_of(1) == hash_of(1) != hash_of(2)


def test_a_draw_survives_its_replay_line() -> None:
    draw = Draw(values={"rows": 1, "cols": 37, "dtype": "float32"}, seed=7, distribution="tiny", layout="strided", origin="kept")
    assert Draw.from_json(draw.to_json()) == draw


def test_a_replay_line_that_cannot_be_read_says_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"expected .*values.*got '\{\}'"):
        Draw.from_json("{}")


def test_a_string_is_one_name() -> None:
    @kernel(double, baseline="eager", grad="x", mutates="x", constant="x", allow="aten::mm", targets="cpu", languages="cpp")
    def test_x(n: int):
        return Tensor(n)

    spec = build_spec(test_x, nodeid="t", cases=[CASE])
    assert (spec.baseline, spec.grad, spec.mutates, spec.constant) == (("eager",), ("x",), ("x",), ("x",))
    assert (spec.allow, spec.targets, spec.languages) == (("aten::mm",), ("cpu",), ("cpp",))


def test_no_baseline_is_a_problem() -> None:
    @kernel(double, baseline=())
    def test_x(n: int):
        return Tensor(n)

    assert problems(test_x) == ("baseline: expected at least one of eager, compile, got none",)


def test_problems_of_cases_are_reported_beside_those_of_options() -> None:
    @kernel(double, min_speedup=-1)
    def test_x(n: int):
        return Tensor(-n)

    assert problems(test_x) == (
        "min_speedup: expected a positive number, got -1",
        "input 0: a size: expected an integer of at least 0, got -4 (case 4)",
    )


def test_a_module_class_is_given_the_arguments_that_the_test_has_and_its_defaults_stand() -> None:
    @kernel(Banded)
    def test_x(cols: int, bands: int):
        return Tensor(2, cols), Tensor(cols // bands)

    spec = build_spec(test_x, nodeid="t", cases=[Case(id="8-2", values={"cols": 8, "bands": 2})])
    assert (spec.reference.inputs, spec.reference.init) == (("x", "weight"), ("cols", "bands"))


def test_a_constructor_argument_that_nobody_gives_is_a_problem() -> None:
    @kernel(Banded)
    def test_x(cols: int):
        return Tensor(2, cols)

    assert problems(test_x, cases=[Case(id="4", values={"cols": 4})]) == (
        "reference: expected an argument of the test function for each that Banded needs, got none for 'bands'",
    )


def test_a_module_class_that_cannot_be_constructed_is_a_problem() -> None:
    @kernel(Banded)
    def test_x(cols: int, bands: int):
        return Tensor(2, cols), Tensor(cols // bands)

    (problem,) = problems(test_x, cases=[Case(id="7-2", values={"cols": 7, "bands": 2})])
    assert problem == (
        "reference: expected Banded(cols=…, bands=…) to be constructed on the meta device, or its state's names in kevolve_state, "
        "got ValueError: 7 is no multiple of 2"
    )


@pytest.mark.parametrize("value", [torch.float32, (1, 2), double, [1, 2], None, 1.5])
def test_a_value_that_json_has_not_survives_its_replay_line(value: object) -> None:
    choices = {"of": (torch.float16, value)}
    text = Draw(values={"of": value}, seed=7).to_json()
    assert Draw.from_json(text, choices=choices).values == {"of": value}
    assert Draw.from_json(text).to_json() == text


def test_decode_finds_the_values_of_a_spec() -> None:
    @kernel(double, vary={"shape": choices((1, 2), (3, 4))})
    def test_x(shape: tuple[int, ...], dtype: torch.dtype):
        return Tensor(*shape, dtype=dtype)

    spec = build_spec(test_x, nodeid="t", cases=[Case(id="c", values={"shape": (3, 4), "dtype": torch.float32})])
    draw = Draw(values={"shape": (3, 4), "dtype": torch.float32}, seed=7, origin="kept")
    assert decode(spec, Draw.from_json(draw.to_json())) == draw
    other = Draw(values={"shape": (3, 4), "dtype": torch.float64}, seed=7)
    assert decode(spec, Draw.from_json(other.to_json())).values["dtype"] == {"$": "torch.float64"}
