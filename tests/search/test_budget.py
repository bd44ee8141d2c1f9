"""Budgets read from the command line, and when they are spent."""

from __future__ import annotations

import pytest

from kevolve.search.budget import Budget, BudgetError

NAMES = "evaluations=N, minutes=N, tokens=N, usd=N, stall=N, goal=N, step=N"


def test_a_budget_is_read_over_the_default():
    read = Budget.parse("evaluations=40, minutes=2.5", Budget(stall=12, minutes=1.0))
    assert read == Budget(evaluations=40, minutes=2.5, stall=12)
    assert Budget.parse("", read) == read


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "evaluation=4",
            "budget 'evaluation=4': expected one of evaluations=N, minutes=N, tokens=N, usd=N, stall=N, goal=N, step=N, got 'evaluation=4'",
        ),
        ("minutes", "budget 'minutes': expected one of evaluations=N, minutes=N, tokens=N, usd=N, stall=N, goal=N, step=N, got 'minutes'"),
        ("evaluations=4.5", "budget 'evaluations=4.5': evaluations: expected a whole number, got '4.5'"),
        ("minutes=soon", "budget 'minutes=soon': minutes: expected a number, got 'soon'"),
        ("stall=0", "budget 'stall=0': stall: expected a number above 0, got 0"),
        ("minutes=inf", "budget 'minutes=inf': minutes: expected a number above 0, got inf"),
        ("stall=1,stall=2", "budget 'stall=1,stall=2': stall: given twice"),
        (
            "stall=x,minutes=-1",
            "budget 'stall=x,minutes=-1': stall: expected a whole number, got 'x'; minutes: expected a number above 0, got -1",
        ),
    ],
)
def test_a_wrong_budget_says_everything_that_is_wrong(given, message):
    with pytest.raises(BudgetError) as caught:
        Budget.parse(given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("spent", "reason"),
    [
        (dict(evaluations=3, seconds=59.0, since_improvement=1, best=1.9), None),
        (dict(evaluations=4, seconds=0.0, since_improvement=0, best=0.0), "budget spent: 4 evaluations"),
        (dict(evaluations=0, seconds=60.0, since_improvement=0, best=0.0), "budget spent: 1 minutes"),
        (dict(evaluations=2, seconds=0.0, since_improvement=2, best=0.0), "stalled: 2 evaluations without an improvement of more than 1%"),
        (dict(evaluations=4, seconds=0.0, since_improvement=0, best=2.0), "goal reached: 2.00x of 2x"),
    ],
)
def test_a_spent_budget_says_why(spent, reason):
    assert Budget(evaluations=4, minutes=1, stall=2, goal=2).spent(**spent) == reason


def test_no_limit_is_never_spent():
    assert Budget().spent(evaluations=10**9, seconds=1e9, since_improvement=10**9, best=1e9) is None
    assert Budget().room(5) is None
    assert Budget(evaluations=4).room(5) == 0
    assert Budget(minutes=1).seconds_left(45.0) == 15.0
