"""What a worker's server does for Triton's children before it forks: import it, and compute once what every compilation asks.

Nothing here touches a device. Without a driver's library (a machine with no device) the part that is built against it is left out.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile

import triton
import triton.language  # every kernel imports it

_ARCHES = (80, 90)  # Triton has one ptxas for architectures before 90, another since


def _prepare() -> None:
    """Hash the compiler, ask ptxas for its version, build the helper that loads binaries: about a second, once a server."""
    from triton.backends.nvidia import compiler, driver
    from triton.runtime.cache import triton_key

    triton_key()
    for arch in _ARCHES:
        compiler.get_ptxas_version(arch)
    with contextlib.suppress(AssertionError, ImportError, OSError, RuntimeError, subprocess.SubprocessError):
        driver.CudaUtils()  # without a driver or a C compiler the first launch says so
    tempfile.tempdir = None  # each child has its own


os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # 3.9 warns where it is unset; 3.6 knows nothing else
if not triton.knobs.runtime.interpret:
    _prepare()
