"""The committed table of attacks is of the catalogue: the same rows and kernels, and the statuses that are meant."""

from __future__ import annotations

import re
from pathlib import Path

from catalogue import ATTACKS, KERNELS, first_line

DOCUMENT = Path(__file__).parents[2] / "docs" / "attacks.md"
LINE = re.compile(r"^\| (\d+) \| .* \| `([\w.]+)` \| (\w+) \| ([^|]+) \| ([A-Z_]+|not run yet) \| .* \| `([\w.]+)` ?([A-Z_]*) \|$")


def test_the_table_has_every_attack_with_the_status_meant_for_it() -> None:
    found = [match.groups() for line in DOCUMENT.read_text().splitlines() if (match := LINE.match(line))]
    expected = [(str(attack.row), attack.kernel, attack.language, str(attack.status), attack.honest, "PASSED") for attack in ATTACKS]
    assert [(row, kernel, language) for row, kernel, language, *_ in found] == [each[:3] for each in expected]
    measured = [(row, kernel, language, status, honest, alike) for row, kernel, language, _, status, honest, alike in found]
    unlike = [(is_, meant) for is_, meant in zip(measured, expected, strict=True) if is_[3] != "not run yet" and is_ != meant]
    assert unlike == []


def test_only_attacks_that_need_a_gpu_may_wait_for_a_run() -> None:
    waiting = {match[2] for line in DOCUMENT.read_text().splitlines() if (match := LINE.match(line)) and match[5] == "not run yet"}
    assert waiting <= {attack.kernel for attack in ATTACKS if attack.where == "gpu"}


def test_every_row_of_the_catalogue_has_two_attacks_at_least_and_every_kernel_is_used() -> None:
    kernels = {row: {attack.kernel for attack in ATTACKS if attack.row == row} for row in range(1, 28)}
    assert {row: found for row, found in kernels.items() if len(found) < 2} == {}
    used = {attack.kernel for attack in ATTACKS} | {attack.honest for attack in ATTACKS}
    assert {path.name for path in KERNELS.iterdir() if path.is_file()} == used


def test_every_kernel_says_for_which_spec_it_is_and_what_it_does() -> None:
    assert [path.name for path in KERNELS.iterdir() if path.is_file() and not all(first_line(path.name))] == []
