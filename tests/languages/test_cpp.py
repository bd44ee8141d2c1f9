"""C++ kernels: what their text may say, how they are built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from kevolve.evaluate.arena import Outputs, pack, read_outputs
from kevolve.evaluate.client import Limits, Workers
from kevolve.languages import BuildError, Built
from kevolve.languages.cpp import Cpp
from kevolve.targets.cpu import CPU

KERNEL = """// scale: 2x
#include <tvm/ffi/tvm_ffi.h>
namespace ffi = tvm::ffi;
ffi::Tensor scale(ffi::TensorView x) {
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device());
  const float* in = static_cast<const float*>(x.data_ptr());
#pragma omp parallel for
  for (int64_t i = 0; i < x.numel(); ++i) static_cast<float*>(out.data_ptr())[i] = 2 * in[i];
  return out;
}
ffi::Tuple<ffi::Tensor, ffi::Tensor> scale_backward(ffi::TensorView dy, ffi::TensorView x) {
  return ffi::Tuple<ffi::Tensor, ffi::Tensor>(scale(dy), scale(x));
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale, scale);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale_backward, scale_backward);
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["g++", "clang++"])
def cxx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each compiler that is here, as ``$CXX``."""
    name = str(request.param)
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("CXX", name)
    missing = Cpp().missing()
    if missing is not None:
        pytest.skip(missing)
    return name


def build(source: str, cache: Path, *, timeout_s: float = 60.0) -> Built:
    return Cpp().build(source, entry="scale", target=CPU(), cache=cache, timeout_s=timeout_s)


def policy(line: str) -> str | None:
    return Cpp().policy(line + "\n", ())


# --- text ---


def test_a_kernel_parses_and_is_allowed() -> None:
    assert Cpp().parse(KERNEL, "scale") is None
    assert Cpp().policy(KERNEL, ()) is None


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("int f() {", "brackets: '{' is never closed"),
        ("int f() { return (1; }", "brackets: '}' closes nothing"),
        ("}", "brackets: '}' closes nothing"),
        ("int f() { return 1; }", "no entry: expected TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale, scale); got exports of nothing"),
        (
            "TVM_FFI_DLL_EXPORT_TYPED_FUNC(other, other);",
            "no entry: expected TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale, scale); got exports of other",
        ),
        (
            "// TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale, scale);",
            "no entry: expected TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale, scale); got exports of nothing",
        ),
    ],
)
def test_what_cannot_compile_is_refused_before_a_compiler_runs(source: str, problem: str) -> None:
    assert Cpp().parse(source, "scale") == problem


def test_brackets_in_strings_and_comments_do_not_count() -> None:
    assert Cpp().parse(KERNEL + '// }\n/* ( */ const char* s = "{[("; char c = \'{\'; const char* r = R"x({)x";\n', "scale") is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('#include "other.h"', "only #include <…> is allowed"),
        ("#include <torch/torch.h>", "expected a header of the C++ library"),
        ("#include <../../x.h>", "expected a header of the C++ library"),
        ("#include <tvm/ffi/../../../x.h>", "expected a header of the C++ library"),
        ("#include <thread>", "expected a header of the C++ library"),
        ("#include <fstream>", "expected a header of the C++ library"),
        ("#  include /* */ <unistd.h>", "expected a header of the C++ library"),
        ("#define H <unistd.h>\n#include H", "only #include <…> is allowed"),
        ('#pragma GCC optimize("fast-math")', "only omp, unroll"),
        ('#pragma GCC target("avx512f")', "only omp, unroll"),
        ('#pragma GCC diagnostic push\n#pragma GCC optimize "Ofast"', "only omp, unroll"),
        ('_Pragma("GCC optimize 3")', "_Pragma: not allowed"),
        ('asm("nop");', "asm: a kernel may not use raw assembler"),
        ('__asm__ volatile("nop");', "__asm__: a kernel may not use raw assembler"),
        ('int x = system("ls");', "system: a kernel may not use starting programs"),
        ("auto p = std::system;", "system: a kernel may not use starting programs"),
        ("#define RUN sys\\\ntem\nRUN(0);", "system: a kernel may not use starting programs"),
        ("#define GLUE(a, b) a##b", "names put together by ##"),
        ('auto h = dlopen("x.so", 1);', "dlopen: a kernel may not use looking up libraries"),
        ("std::thread t(f);", "thread: a kernel may not use threads of its own"),
        ("auto f = &::open;", "open: a kernel may not use files"),
        ('auto f = fopen("x", "w");', "fopen: a kernel may not use files"),
        ("std::ofstream f;", "ofstream: a kernel may not use files"),
        ('auto v = getenv("HOME");', "getenv: a kernel may not use the environment"),
        ("_exit(0);", "_exit: a kernel may not use ending or signalling"),
        ("_mm_setcsr(0x8040);", "_mm_setcsr: a kernel may not use floating-point modes"),
        ("omp_set_num_threads(1);", "omp_set_num_threads: a kernel may not use settings of the process's OpenMP"),
        ('auto f = ffi::Function::GetGlobal("torch.mm");', "GetGlobal: a kernel may not use tvm_ffi's registry"),
        ("__attribute__((constructor)) void before() {}", "__attribute__((constructor)): not allowed"),
        ('__attribute__((optimize("Ofast"))) void f() {}', "__attribute__((optimize)): not allowed"),
        ('static int run(const char*) __attribute__((weakref("system")));', "__attribute__((weakref)): not allowed"),
        ('[[gnu::optimize("Ofast")]] void f() {}', "gnu: not allowed"),
        ("mmap(0, 1, 1, 1, 1, 1);", "mmap: a kernel may not use system calls"),
    ],
)
def test_the_policy_refuses(line: str, reason: str) -> None:
    assert reason in str(policy(line))


def test_an_attribute_that_changes_no_meaning_is_allowed() -> None:
    assert policy("__attribute__((always_inline)) inline int f() { return 1; }") is None


@pytest.mark.parametrize(
    "line",
    [
        "#include <cmath>",
        "#include <immintrin.h>",
        "#include <dlpack/dlpack.h>",
        "#include <tvm/ffi/extra/c_env_api.h>",
        "#pragma omp simd reduction(+ : sum)",
        "#pragma GCC unroll 4",
        "#define TILE 64",
        "// system(), fopen",
        'TVM_FFI_THROW(ValueError) << "cannot open or read the system";',
        "int n = queue.read(); it->remove(3);",
        "int thread = omp_get_thread_num(); auto read = [&](int i) { return in[i]; };",
        "__attribute__((aligned(64))) float buffer[16];",
        "int system_size = 1'000'000;",
        "throw std::runtime_error(message);",
    ],
)
def test_the_policy_allows(line: str) -> None:
    assert policy(line) is None


def test_comments_and_layout_make_no_difference_to_the_normal_form() -> None:
    spread = KERNEL.replace("// scale: 2x", "/* another\n idea */").replace("  ", "\t").replace(" + ", "\n+ ").replace("{", "{\n")
    assert Cpp().normalise(spread) == Cpp().normalise(KERNEL)
    assert Cpp().normalise(KERNEL.replace("2 *", "3 *")) != Cpp().normalise(KERNEL)


def test_strings_are_part_of_the_normal_form() -> None:
    assert Cpp().normalise('auto s = "a  b";') != Cpp().normalise('auto s = "a b";')


# --- builds ---


def test_a_kernel_builds_once_and_is_then_found(cache: Path, cxx: str) -> None:
    first, second = build(KERNEL, cache), build(KERNEL, cache)
    assert first.artifact == second.artifact
    assert (first.cached, second.cached) == (False, True)
    assert first.diagnostics == ""


def test_a_built_kernel_gives_its_functions_to_the_worker(cache: Path, cxx: str) -> None:
    loaded = Cpp().load(build(KERNEL, cache).artifact, entry="scale", target=CPU())
    assert loaded.call(torch.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]
    assert loaded.backward is not None
    gradients = loaded.backward(torch.tensor([3.0]), torch.tensor([1.0]))
    assert type(gradients) is tuple
    assert [gradient.item() for gradient in gradients] == [6.0, 2.0]
    assert loaded.prepare is None


def test_an_error_is_shown_with_its_line_and_without_paths_of_this_machine(cache: Path, cxx: str) -> None:
    with pytest.raises(BuildError) as caught:
        build(KERNEL.replace("2 * in[i]", "2 * input[i]"), cache)
    message = str(caught.value)
    assert "kernel.cpp:8:" in message
    said = {"g++": "‘input’ was not declared in this scope", "clang++": "use of undeclared identifier 'input'"}
    assert f"error: {said[cxx]}" in message
    assert "2 * input[i]" in message
    assert str(cache) not in message


def test_a_template_error_is_cut_to_what_matters(cache: Path, cxx: str) -> None:
    with pytest.raises(BuildError) as caught:
        build(KERNEL.replace("x.shape()", "std::vector<std::string>{x}"), cache)
    assert len(str(caught.value)) <= 4100
    assert "kernel.cpp:5:" in str(caught.value)


def test_a_compilation_that_does_not_end_is_stopped(cache: Path) -> None:
    build(KERNEL, cache)  # the precompiled header is there
    with pytest.raises(BuildError, match=r"the compiler did not end within 0\.05 s"):
        build(KERNEL + "// slow\n", cache, timeout_s=0.05)
    assert list(cache.rglob("build-*")) == []


def test_threads_that_build_the_same_kernel_agree(cache: Path) -> None:
    source, built = KERNEL + "// again\n", []
    threads = [threading.Thread(target=lambda: built.append(build(source, cache).artifact)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 3
    assert len(set(built)) == 1


def test_without_a_compiler_the_command_that_installs_one_is_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    assert Cpp().missing() == "no C++ compiler: apt install g++ (or set CXX)"
    with pytest.raises(BuildError, match="apt install g"):
        build(KERNEL + "// new\n", cache)


def test_compilers_share_a_cache_and_no_artifact(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("clang++") is None or shutil.which("g++") is None:
        pytest.skip("needs g++ and clang++")
    made = {}
    for name in ("g++", "clang++"):
        monkeypatch.setenv("CXX", name)
        if Cpp().missing() is not None:
            pytest.skip(str(Cpp().missing()))
        made[name] = (Cpp().versions()["compiler"], build(KERNEL, cache).artifact)
    assert made["g++"][0] != made["clang++"][0]
    assert made["g++"][1] != made["clang++"][1]


def test_a_kernel_of_either_compiler_runs_its_threads_in_a_confined_worker(cache: Path, cxx: str, tmp_path: Path) -> None:
    target, artifact = CPU(), build(KERNEL, cache).artifact
    limits = Limits(memory_bytes=1 << 30)
    with Workers(sys_path=sys.path, scratch=tmp_path, limits=limits) as workers, workers.child(target=target, language="cpp") as child:
        child.call("enter", target="cpu", stage="check", deadline_s=60)
        child.call("load_candidate", language="cpp", artifact=str(artifact), entry="scale", deadline_s=60)
        with pack([[torch.ones(100_000)]]) as arena, Outputs() as outputs:
            fields = child.call("run", fds=(arena.fd, outputs.fd), layout=arena.layout, deadline_s=60).fields
            ((doubled,),) = read_outputs(outputs, fields["outputs"])
        notes = list(Path("/dev/shm").glob(f"*{child.pid}*"))
    assert torch.equal(doubled, torch.full((100_000,), 2.0))
    assert notes == []


def test_a_clang_without_openmp_is_missing_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clang = tmp_path / "clang++"
    refuses = "echo \"fatal error: 'omp.h' file not found\" >&2; exit 1"
    clang.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo clang version 1; exit 0; }}\n{refuses}\n')
    clang.chmod(0o755)
    monkeypatch.setenv("CXX", str(clang))
    assert Cpp().missing() == "clang++ has no OpenMP: apt install libomp-dev (or set CXX=g++)"
    with pytest.raises(BuildError, match="apt install libomp-dev"):
        build(KERNEL, tmp_path)


def test_importing_the_language_imports_no_torch() -> None:
    code = "import sys, kevolve.languages.cpp as c; c.Cpp().versions(); print('torch' in sys.modules, 'tvm_ffi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False False\n"
