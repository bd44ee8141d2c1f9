"""What a worker's server does for Triton's children before it forks: import it, and compute once what every compilation asks.

Nothing here touches a device. Without a driver's library (a machine with no device) the part that is built against it is left out.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import tempfile

import triton
import triton.language  # every kernel imports it

_ARCHES = (80, 90)  # Triton has one ptxas for architectures before 90, another since
# What the first launch and the first fake tensor of every child would import anew: two seconds where no bytecode lies beside the sources.
_FIRST_CALL = (
    "torch.fx.experimental.symbolic_shapes",
    "triton.compiler.code_generator",
    "triton.experimental.gluon.nvidia.blackwell",
    "triton.experimental.gluon.nvidia.hopper",
    "triton.tools.tensor_descriptor",
)


def _prepare() -> None:
    """Hash the compiler, ask ptxas for its version, make the driver's object with its helper: about a second, once a server."""
    from triton.backends.nvidia import compiler
    from triton.backends.nvidia.driver import CudaDriver
    from triton.runtime.cache import triton_key
    from triton.runtime.driver import driver

    for name in _FIRST_CALL:
        with contextlib.suppress(ImportError):  # another version's place for it: the call imports it then
            importlib.import_module(name)
    triton_key()
    for arch in _ARCHES:
        compiler.get_ptxas_version(arch)
    with contextlib.suppress(AssertionError, ImportError, OSError, RuntimeError, subprocess.SubprocessError):
        # Without a driver or a C compiler the first launch says so. Triton's own choice of a driver would start NVML before the fork, and
        # torch's report of memory that is spent then fails in the children.
        driver.set_active(CudaDriver())
    tempfile.tempdir = None  # each child has its own


os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # 3.9 warns where it is unset; 3.6 knows nothing else
os.environ.setdefault("TRITON_DISABLE_LINE_INFO", "1")  # the same instructions, compiled in five sixths of the time
if not triton.knobs.runtime.interpret:
    _prepare()
