"""What CUDA C++ text may say beyond C++: headers of the device, the runtime's calls that a kernel needs, assembler in device code."""

from __future__ import annotations

import re

from kevolve.languages.cpp_source import Dialect, Token

_HEADERS = frozenset(
    """
    cuda_runtime.h cuda_runtime_api.h cuda.h cuda_fp16.h cuda_bf16.h cuda_fp8.h cuda_fp6.h cuda_fp4.h cuda_pipeline.h mma.h
    cooperative_groups.h math_constants.h vector_types.h device_launch_parameters.h
    """.split()
)
# Parts that a kernel is put together from; whole algorithms (cub/device, thrust) are library calls.
_FOLDERS = ("cooperative_groups/", "cub/block/", "cub/warp/", "cub/thread/", "cuda/std/")
_CUDA_HEADERS = frozenset("cuda/barrier cuda/pipeline cuda/ptx cuda/atomic cuda/functional".split())

# Calls of the runtime: launching, reading a size back, and questions. Everything else is somebody else's business.
_CALLS = frozenset(
    """
    cudaGetLastError cudaPeekAtLastError cudaGetErrorString cudaGetErrorName cudaLaunchKernel cudaLaunchKernelEx cudaLaunchKernelExC
    cudaLaunchCooperativeKernel cudaFuncSetAttribute cudaFuncGetAttributes cudaMemcpyAsync cudaMemsetAsync cudaStreamSynchronize
    cudaGetDevice cudaDeviceGetAttribute cudaMemcpyToSymbolAsync
    cudaOccupancyMaxActiveBlocksPerMultiprocessor cudaOccupancyMaxPotentialBlockSize cudaOccupancyMaxActiveClusters
    cudaTriggerProgrammaticLaunchCompletion cudaGridDependencySynchronize
    """.split()
)
_TYPES = re.compile(
    r"cuda\w*_t|cuda(?:LaunchConfig|LaunchAttribute|FuncAttributes|Error)\w*|cudaSuccess|cuda(?:FuncAttribute|DevAttr|Memcpy)[A-Z]\w*"
)
_RUNTIME = re.compile(r"cuda[A-Z]\w*")
_DRIVER = re.compile(r"(?:cu|nv|CU|nvrtc|cublas|cudnn|cusparse|cufft|curand|nvml|cupti|nvtx)[A-Z]\w*")


def _header(name: str) -> bool:
    return name in _HEADERS or name in _CUDA_HEADERS or name.startswith(_FOLDERS)


def _refused(words: list[Token], at: int) -> str | None:
    """What a name of NVIDIA's would be used for, unless a kernel needs it."""
    name = words[at][1]
    if _RUNTIME.fullmatch(name) and name not in _CALLS and not _TYPES.fullmatch(name):
        return "this call of the CUDA runtime (memory comes from FromEnvAlloc, the stream from TVMFFIEnvGetStream)"
    if _DRIVER.fullmatch(name) and name != "CUtensorMap":
        return "the CUDA driver's or a library's own calls"
    return None


def _device_assembler(words: list[Token], at: int) -> bool:
    """Whether a place lies in the body of a function for the device only: assembler there is PTX."""
    depth = 0
    for place in range(at - 1, -1, -1):
        text = words[place][1]
        depth += (text == "}") - (text == "{")
        if depth < 0:
            depth = 0
            before = _declaration(words, place)
            if {"__device__", "__global__"} & before:
                return "__host__" not in before
    return False


def _declaration(words: list[Token], brace: int) -> set[str]:
    """The words before an opening brace, back to the end of what stands before its declaration."""
    found: set[str] = set()
    for place in range(brace - 1, -1, -1):
        text = words[place][1]
        if text in (";", "{", "}") or words[place][0] == "directive":
            break
        found.add(text)
    return found


CUDA = Dialect(header=_header, refused=_refused, assembler=_device_assembler)
