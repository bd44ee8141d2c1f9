"""What C++ text may declare without a header, and by which other names it might reach what it may not."""

from __future__ import annotations

import pytest

from kevolve.languages.cpp_source import policy_problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'extern "C" int fork();',
            'extern "C" fork: a kernel may not declare functions of other libraries (include their header)',
        ),
        (
            'extern "C" { int one(int); int two(int); }',
            'extern "C" one: a kernel may not declare functions of other libraries (include their header)',
        ),
        ('extern "C" int counter;', 'extern "C" int counter: a kernel may not declare functions of other libraries (include their header)'),
        ("void f() { __builtin_exit(0); }", "__builtin_exit: a kernel may not use ending or signalling"),
        ("void f() { __builtin_fork(); }", "__builtin_fork: a kernel may not use starting programs"),
        ("int f() { return _Py_IsInitialized(); }", "_Py_IsInitialized: a kernel may not use the insides of the interpreter or the loader"),
        ("auto* f() { return _r_debug.r_map; }", "_r_debug: a kernel may not use the insides of the interpreter or the loader"),
        ("void f() { usleep(10); }", "usleep: a kernel may not use waiting"),
        ("void f() { sched_setaffinity(0, 0, 0); }", "sched_setaffinity: a kernel may not use the priorities of processes"),
    ],
)
def test_what_a_kernel_has_no_use_for_is_refused_by_name(text: str, problem: str) -> None:
    assert policy_problem(text) == problem


@pytest.mark.parametrize(
    "text",
    [
        '#pragma omp declare simd notinbranch\nextern "C" float expf(float) noexcept;',
        'extern "C" void sums(const float* x, float* y) { y[0] = x[0]; }',
        "void f(char* to, const char* from) { __builtin_memcpy(to, from, 4); __builtin_prefetch(from); }",
        'extern "C" { float expf(float); void sums(const float* x, float* y) { y[0] = x[0]; } }',
        "float PyramidSum(float x) { return x; }",
        "struct Rows { int clock(); }; int f(Rows rows) { return rows.clock(); }",
    ],
)
def test_what_honest_kernels_do_alike_is_allowed(text: str) -> None:
    assert policy_problem(text) is None
