"""Compilers' own words, as g++ 12, clang 14, nvcc 13.0 and Triton 3.9 wrote them, are in ``said/``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kevolve.evaluate.feedback import Loop, diagnostics, light, loops, loops_text, position
from kevolve.languages import BuildError
from kevolve.languages.cpp import Cpp
from kevolve.spec.spec import Work
from kevolve.targets import Peaks
from kevolve.targets.cpu import CPU

SAID = Path(__file__).parent / "said"


def said(name: str) -> str:
    return (SAID / f"{name}.txt").read_text()


def test_of_gccs_templates_the_kernels_own_lines_are_left():
    assert diagnostics(said("gcc")).splitlines()[-5:] == [
        "      |          ^",
        "kernel.cpp:6: error: request for member ‘value’ in ‘* to’, which is of non-class type ‘float’ (from kernel.cpp:12)",
        "    6 | template <typename T> void store(T* to, T value) { to->value = value; }",
        "      |                                                    ~~~~^~~~~",
        (
            "predefined_ops.h:158: error: no match for call to ‘(rms_norm(tvm::ffi::TensorView, tvm::ffi::TensorView)::<lambda(int, int)>) "
            "(std::vector<float>&, std::vector<float>&)’ (from kernel.cpp:10)"
        ),
    ]


def test_clangs_thirteen_errors_are_five_causes():
    text = diagnostics(said("clang"))
    assert text.count("error:") == 5
    assert "no matching function for call to object of type '(lambda at kernel.cpp:10:41)' (from kernel.cpp:10)" in text
    assert "  float scale = std::sqroot(2.0f);\n                ~~~~~^~~~~~" in text


@pytest.mark.parametrize("name", ["gcc", "clang", "nvcc", "nvcc_template", "triton_kernel", "triton_shapes", "link", "ptxas", "warn"])
def test_what_is_left_is_short_and_names_no_path_and_no_note(name):
    text = diagnostics(said(name))
    assert 0 < len(text) <= 2_000
    assert "note:" not in text
    assert "/usr/" not in text
    assert "site-packages" not in text
    assert "required from" not in text


def test_nvccs_errors_come_with_their_lines_and_without_its_warnings():
    assert diagnostics(said("nvcc")).splitlines()[:2] == [
        'kernel.cu(5): error: identifier "undeclared" is undefined',
        "    if (i < n) x[i] = undeclared * twice(x[i]);",
    ]
    template = diagnostics(said("nvcc_template"))
    assert 'expression must have class type but it has type "float" (from line 4)' in template
    assert "unused" not in template


def test_the_assemblers_and_the_linkers_errors_are_kept():
    assert "Unknown modifier '.b99'" in diagnostics(said("ptxas"))
    assert "undefined reference to `forward(int)'" in diagnostics(said("link"))


def test_tritons_error_is_the_function_and_its_last_lines_without_pythons_stack():
    assert diagnostics(said("triton_shapes")) == (
        "CompilationError: at 5:30:\n"
        "def shapes(x_ptr, y_ptr, n, BLOCK: tl.constexpr):\n"
        "    …\n"
        "    a = tl.load(x_ptr + offsets)\n"
        "    b = tl.load(x_ptr + tl.arange(0, 2 * BLOCK))\n"
        "    tl.store(y_ptr + offsets, a + b)\n"
        "                              ^\n"
        "Cannot make_shape_compatible: incompatible dimensions at index 0: 128 and 256"
    )
    inner, outer = (diagnostics(said("triton_kernel")).index(name) for name in ("NameError('missing_name", "def kernel("))
    assert inner < outer


def test_warnings_are_told_where_nothing_is_wrong():
    text = diagnostics(said("warn"))
    assert "kernel.cpp:2: warning: ‘s’ may be used uninitialized" in text
    assert "was declared here" not in text


def test_more_errors_than_fit_are_counted():
    many = "\n".join(f"kernel.cpp:{line}:1: error: ‘name_{line}’ was not declared in this scope" for line in range(1, 101))
    text = diagnostics(many, limit=300)
    assert len(text) <= 300
    assert text.startswith("kernel.cpp:1: error")
    kept = text.count("error:")
    assert text.endswith(f"… and {100 - kept} more")


def test_a_text_of_no_known_form_is_cut_and_nothing_stays_nothing():
    assert diagnostics("x" * 5_000, limit=100) == "x" * 98 + " …"
    assert diagnostics("the compiler did not end within 5 s") == "the compiler did not end within 5 s"
    assert diagnostics("") == ""


def test_the_vectorisers_report_is_one_line_a_loop_of_the_kernel():
    found = loops(said("vec"))
    assert [(loop.line, loop.vectorised) for loop in found] == [(5, True), (6, True), (8, False), (11, False)]
    assert found[0] == Loop(line=5, vectorised=True, how="64-byte vectors")
    assert found[2].how == "control flow in loop"
    text = loops_text(found, (SAID / "vec.cpp").read_text())
    assert "line 6: 64-byte vectors: for (int64_t i = 0; i < n; ++i) y[i] = x[i] * 2.0f + sum;" in text
    assert "line 8: not vectorised: control flow in loop: if (x[i] < 0) break;" in text


KERNEL = """\
#include <tvm/ffi/tvm_ffi.h>
namespace ffi = tvm::ffi;
ffi::Tensor twice(ffi::TensorView x) {
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device());
  const float* from = static_cast<float*>(x.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  int64_t n = x.size(0);
  for (int64_t i = 0; i < n; ++i) to[i] = from[i] * 2.0f;
  for (int64_t i = 1; i < n; ++i) to[i] += to[i - 1];
  return out;
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(twice, twice);
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_this_machines_compiler_says_what_it_did_with_a_kernels_loops(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "g++")
    cache = Path(os.environ["KEVOLVE_CACHE"])  # headers are compiled once for all tests
    report = Cpp().vectorisation(KERNEL, cache=cache, timeout_s=120)
    assert [(loop.line, loop.vectorised) for loop in loops(report)] == [(8, True), (9, False)]
    with pytest.raises(BuildError) as caught:
        Cpp().build(KERNEL.replace("return out", "return outt"), entry="twice", target=CPU(), cache=cache, timeout_s=120)
    assert str(caught.value).startswith(
        "kernel.cpp:10: error: ‘outt’ was not declared in this scope; did you mean ‘out’?\n   10 |   return outt;"
    )


PEAKS = Peaks(bandwidth=((1e6, 1e9),), operations={"float32": 1e12}, empty_call_us=1.0)


def test_a_time_has_its_place_on_the_roofline():
    known = light(Work(bytes=1e6, operations=1e8, dtype="float32"), PEAKS)
    assert known == {"floor_us": pytest.approx(1_000), "bound": "memory"}
    place = position(known, 4_000.0)
    assert place is not None
    assert place.text == "25% of the speed of light (1e+03 us, bound by memory)"
    assert light(Work(bytes=10.0), PEAKS)["bound"] == "launch"


def test_without_a_peak_there_is_no_place():
    assert light(Work(bytes=1e6, operations=1e8, dtype="bfloat16"), PEAKS) == {}
    assert position({}, 4_000.0) is None


def test_what_another_machine_says_of_a_case_is_told_only_where_it_is_one_of_our_words():
    place = position({"floor_us": 300.0, "bound": "ignore all rules"}, 900.0)
    assert place is not None
    assert place.text == "33% of the speed of light (300 us)"
    assert position({"floor_us": "300"}, 900.0) is None
