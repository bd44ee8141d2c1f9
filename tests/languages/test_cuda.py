"""CUDA C++ kernels: what their text may say, how they are built, and what the compiler says of them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kevolve.languages import BuildError, BuildsFor, Built
from kevolve.languages.cuda import Cuda, compiler

SOURCE = (Path(__file__).parent / "rms_norm.cu").read_text()
SMALL = """// scale: 2x
#include <cuda_runtime.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>
namespace ffi = tvm::ffi;
__global__ void twice(const float* x, float* out, int64_t count) {
  const int64_t at = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (at < count) out[at] = 2 * x[at];
}
ffi::Tensor scale(ffi::TensorView x) {
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device());
  auto stream = static_cast<cudaStream_t>(TVMFFIEnvGetStream(x.device().device_type, x.device().device_id));
  if (x.numel()) twice<<<(x.numel() + 255) / 256, 256, 0, stream>>>(
      static_cast<const float*>(x.data_ptr()), static_cast<float*>(out.data_ptr()), x.numel());
  return out;
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale, scale);
"""
needs_nvcc = pytest.mark.skipif(Cuda().missing() is not None, reason=str(Cuda().missing()))


@pytest.fixture(scope="session")
def cache(shared_folder: Path) -> Path:
    """One cache for all xdist workers: nvcc takes seconds. Not the one that runs of pytest use: a test here asks what was built."""
    return shared_folder / "nvcc"


def build(source: str, cache: Path, *, arch: str = "sm90", timeout_s: float = 120.0) -> Built:
    return Cuda().build_for(source, arch=arch, cache=cache, timeout_s=timeout_s)


def policy(line: str) -> str | None:
    return Cuda().policy(line + "\n", ())


class Target:
    """A target with a device of this architecture."""

    name = "somewhere"

    def __init__(self, arch: str) -> None:
        self._arch = arch

    def device(self) -> dict[str, str]:
        return {"arch": self._arch}


# --- text ---


@pytest.mark.parametrize("entry, source", [("rms_norm", SOURCE), ("scale", SMALL)])
def test_a_kernel_parses_and_is_allowed(entry: str, source: str) -> None:
    assert Cuda().parse(source, entry) is None
    assert Cuda().policy(source, ()) is None


def test_an_entry_that_is_not_exported_is_missed() -> None:
    assert Cuda().parse(SMALL, "other") == "no entry: expected TVM_FFI_DLL_EXPORT_TYPED_FUNC(other, other); got exports of scale"


def test_comments_and_layout_make_no_other_kernel() -> None:
    assert Cuda().normalise("// a\n__global__ void f( int x ) {}") == Cuda().normalise("__global__ void f(int x){ }")


@pytest.mark.parametrize(
    "line",
    [
        "#include <cuda_bf16.h>",
        "#include <mma.h>",
        "#include <cooperative_groups/reduce.h>",
        "#include <cub/block/block_reduce.cuh>",
        "#include <cuda/std/limits>",
        "cudaError_t error = cudaGetLastError();",
        "cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, 98304);",
        "cudaMemcpyAsync(to, from, 8, cudaMemcpyDeviceToHost, stream); cudaStreamSynchronize(stream);",
        "cudaLaunchConfig_t config; cudaLaunchKernelEx(&config, f, x);",
        '__device__ float f(float x) { float y; asm volatile("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }',
        'template <int N> __global__ void f(int* x) { if (N) { asm("bar.sync 1, 32;"); } }',
        "#pragma unroll 4",
    ],
)
def test_what_a_kernel_needs_is_allowed(line: str) -> None:
    assert policy(line) is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("#include <cublas_v2.h>", "#include <cublas_v2.h>: expected a header"),
        ("#include <cudnn.h>", "#include <cudnn.h>: expected a header"),
        ("#include <cub/device/device_reduce.cuh>", "#include <cub/device/device_reduce.cuh>: expected a header"),
        ("#include <thrust/sort.h>", "#include <thrust/sort.h>: expected a header"),
        ("#include <nvrtc.h>", "#include <nvrtc.h>: expected a header"),
        ('#include "/etc/passwd"', "only #include <…> is allowed"),
        ("cudaMalloc(&p, 8);", "cudaMalloc: a kernel may not use this call of the CUDA runtime"),
        ("cudaDeviceReset();", "cudaDeviceReset: a kernel may not use this call"),
        ("cudaEventRecord(a, s);", "cudaEventRecord: a kernel may not use this call"),
        ("cudaStreamCreate(&s);", "cudaStreamCreate: a kernel may not use this call"),
        ("cudaLaunchHostFunc(s, f, 0);", "cudaLaunchHostFunc: a kernel may not use this call"),
        ("cudaCtxResetPersistingL2Cache();", "cudaCtxResetPersistingL2Cache: a kernel may not use this call"),
        ("cuModuleLoad(&m, p);", "cuModuleLoad: a kernel may not use the CUDA driver's or a library's own calls"),
        ("cublasSgemm(h);", "cublasSgemm: a kernel may not use the CUDA driver's"),
        ("nvmlDeviceSetGpuLockedClocks(d, 1, 1);", "nvmlDeviceSetGpuLockedClocks: a kernel may not use"),
        ('dlopen("x", 1);', "dlopen: a kernel may not use looking up libraries"),
        ('void f() { asm("syscall"); }', "asm: a kernel may not use raw assembler"),
        ('__host__ __device__ void f() { asm("syscall"); }', "asm: a kernel may not use raw assembler"),
        ('__device__ int x; void f() { asm("syscall"); }', "asm: a kernel may not use raw assembler"),
        ('__device__ void g() {} void f() { asm("syscall"); }', "asm: a kernel may not use raw assembler"),
        ('asm(".globl x");', "asm: a kernel may not use raw assembler"),
        ("#define A asm\nA", "asm: a kernel may not use raw assembler"),
        ('system("ls");', "system: a kernel may not use starting programs"),
        ("#define M cudaMalloc", "cudaMalloc: a kernel may not use this call"),
    ],
)
def test_what_a_kernel_has_no_use_for_is_refused(line: str, problem: str) -> None:
    assert (policy(line) or "").startswith(problem) or problem in (policy(line) or "")


# --- building, without a device ---


def test_it_builds_for_architectures() -> None:
    assert isinstance(Cuda(), BuildsFor)


def test_without_nvcc_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kevolve.languages.cuda.compiler", lambda: None)
    assert (Cuda().missing() or "").startswith("no nvcc: pip install 'kevolve[cuda]'")
    with pytest.raises(BuildError, match="no nvcc"):
        build(SMALL, Path())


def test_a_target_without_a_device_is_no_architecture(cache: Path) -> None:
    target: Any = Target("none")
    with pytest.raises(BuildError, match="somewhere: expected a device with an architecture such as 'sm90', got 'none'"):
        Cuda().build(SMALL, entry="scale", target=target, cache=cache, timeout_s=60)


@needs_nvcc
def test_a_kernel_is_built_once_and_says_what_it_needs(cache: Path) -> None:
    target: Any = Target("sm90")
    built = Cuda().build(SMALL, entry="scale", target=target, cache=cache, timeout_s=120)
    assert built.artifact.exists()
    assert built.diagnostics == ""
    assert built.resources["kernels"] == 1
    assert 8 <= built.resources["registers"] <= 32
    assert (built.resources["spill_bytes"], built.resources["shared_bytes"]) == (0, 0)
    again = build(SMALL, cache)
    assert (again.artifact, again.resources, again.cached) == (built.artifact, built.resources, True)


@needs_nvcc
def test_an_error_is_shown_with_its_line_and_without_paths_of_this_machine(cache: Path) -> None:
    with pytest.raises(BuildError) as raised:
        build(SMALL.replace("2 * x[at]", "twicee(x[at])"), cache)
    message = str(raised.value)
    assert 'kernel.cu(8): error: identifier "twicee" is undefined' in message
    assert str(Path.home()) not in message
    assert "ptxas info" not in message


@needs_nvcc
def test_a_compiler_without_end_is_stopped(cache: Path) -> None:
    endless = "template <int N> struct A { static constexpr int v = A<N + 1>::v + A<N + 2>::v; };\n" + SMALL
    began = time.monotonic()
    with pytest.raises(BuildError):
        build(endless.replace("2 * x[at]", "A<0>::v"), cache, timeout_s=3)
    assert time.monotonic() - began < 10
    assert not list((cache / "cuda").glob("*/build-*"))


def test_importing_the_language_imports_no_torch() -> None:
    code = "import sys, kevolve.languages.cuda as c; c.Cuda().missing(); print('torch' in sys.modules, 'tvm_ffi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "False"], done.stderr


# --- on a device ---


@pytest.mark.gpu
@needs_nvcc
def test_the_example_is_right_on_a_device(cache: Path) -> None:
    """In a process of its own: this one must not hold a device."""
    script = """
import sys, torch
from pathlib import Path
from kevolve.languages.cuda import Cuda
if not torch.cuda.is_available():
    print("no GPU")
    raise SystemExit
arch = "sm" + "".join(map(str, torch.cuda.get_device_capability()))
built = Cuda().build_for(Path(sys.argv[1]).read_text(), arch=arch, cache=Path(sys.argv[2]), timeout_s=120)
call = Cuda().load(built.artifact, entry="rms_norm", target=None).call
worst = 0.0
for rows, cols in ((0, 5), (1, 1), (3, 37), (5, 1000), (256, 4096)):
    x, weight = torch.randn(rows, cols, device="cuda"), torch.randn(2 * cols, device="cuda")[::2]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        out = call(x, weight)
    torch.cuda.synchronize()
    wide = x.double()
    expected = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.double()
    assert (type(out), out.dtype, out.shape, out.device) == (torch.Tensor, x.dtype, x.shape, x.device)
    if rows:
        worst = max(worst, float((out.double() - expected).abs().max() / expected.abs().max()))
print(worst < 1e-6)
"""
    example = Path(__file__).parent / "rms_norm.cu"
    done = subprocess.run([sys.executable, "-c", script, example, cache], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "no GPU":
        pytest.skip("no GPU")
    assert done.stdout.strip() == "True"


def test_nvcc_is_found_where_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = tmp_path / "nvcc"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("NVCC", str(mine))
    assert compiler() == str(mine)
