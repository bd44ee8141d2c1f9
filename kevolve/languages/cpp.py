"""C++17 with OpenMP through apache-tvm-ffi: no torch headers, about a second a build."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kevolve.languages import BuildError, Built, Loaded
from kevolve.languages.cpp_source import normalise, parse_problem, policy_problem

if TYPE_CHECKING:
    from kevolve.targets import Target

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
_HEADERS = """
    tvm/ffi/tvm_ffi.h tvm/ffi/extra/c_env_api.h omp.h immintrin.h algorithm array cmath cstdint cstring limits numeric type_traits
    utility vector
""".split()
_RUNTIME = "openmp.so"  # beside the header of a clang: what begins its OpenMP
_RUNTIME_SOURCE = '#include <omp.h>\nextern "C" int kevolve_threads() { return omp_get_max_threads(); }\n'
_RUNTIME_NOTES = Path("/dev/shm")
_COMPILER_MEMORY_BYTES = 8 << 30
_DIAGNOSTIC_LINES, _DIAGNOSTIC_CHARS = 40, 4000


class Cpp:
    """The language ``cpp``: g++ or clang++ (``$CXX`` first), tensors as ``tvm::ffi::TensorView``."""

    name = "cpp"
    suffix = ".cpp"
    comment = "//"
    preload = ("tvm_ffi",)  # imported by the worker's server before it forks

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def missing(self) -> str | None:
        """None where a compiler with OpenMP and apache-tvm-ffi are there."""
        if importlib.util.find_spec("tvm_ffi") is None:
            return "apache-tvm-ffi is not installed: pip install apache-tvm-ffi"
        path = compiler()
        if path is None:
            return "no C++ compiler: apt install g++ (or set CXX)"
        if _is_clang(path) and not _has_openmp(path):
            return f"{Path(path).name} has no OpenMP: apt install libomp-dev (or set CXX=g++)"
        return None

    def versions(self) -> Mapping[str, str]:
        """Compiler, flags, apache-tvm-ffi and the processor that ``-march=native`` means."""
        path = compiler()
        version = _compiler_version(path) if path else "none"
        return {"compiler": version, "flags": " ".join(FLAGS), "tvm_ffi": importlib.metadata.version("apache-tvm-ffi"), "cpu": cpu_model()}

    def parse(self, source: str, entry: str) -> str | None:
        """Brackets that do not match, or an entry that is not exported."""
        return parse_problem(source, entry)

    def policy(self, source: str, allow: Sequence[str]) -> str | None:
        """Includes, pragmas and names that a kernel has no use for. ``allow`` opens nothing: no library is linked."""
        return policy_problem(source)

    def normalise(self, source: str) -> str:
        """The tokens, one space between."""
        return normalise(source)

    def build(self, source: str, *, entry: str, target: Target, cache: Path, timeout_s: float) -> Built:
        """Compile, or find it in ``cache``. Raises ``BuildError`` with the first diagnostics."""
        missing, path = self.missing(), compiler()
        if missing is not None or path is None:
            raise BuildError(str(missing))
        began, key = time.perf_counter(), _digest(source)
        toolchain = cache.resolve() / "cpp" / _digest(*self.versions().values(), *_HEADERS)[:16]
        artifact = toolchain / key[:2] / f"{key}.so"
        if artifact.exists():
            return Built(artifact=artifact, seconds=time.perf_counter() - began, cached=True)
        artifact.parent.mkdir(parents=True, exist_ok=True)
        header = self._header(path, toolchain, timeout_s)
        diagnostics = _compile(path, source, artifact, header, timeout_s)
        return Built(artifact=artifact, seconds=time.perf_counter() - began, diagnostics=diagnostics)

    def begin(self, artifact: Path) -> None:
        """Begin the OpenMP of an ``artifact`` that clang built, in the worker, before it is confined; runs none of the candidate's code.

        LLVM's runtime leaves a note for others of its kind in /dev/shm when it begins; before LLVM 17 it ends the process where it
        cannot. The note goes at once: a worker is killed and would leave it for ever.
        """
        runtime = artifact.parents[1] / _RUNTIME
        if runtime.exists():
            ctypes.CDLL(str(runtime)).kevolve_threads()
            for note in _RUNTIME_NOTES.glob(f"__KMP_REGISTERED_LIB_{os.getpid()}_*"):
                note.unlink()

    def load(self, artifact: Path, *, entry: str, target: Target) -> Loaded:
        """The library's functions; tuples for returned arrays."""
        import tvm_ffi

        module = tvm_ffi.load_module(str(artifact))
        functions = {name: _function(module, name, tvm_ffi) for name in (entry, f"{entry}_backward", f"{entry}_prepare")}
        call = functions[entry]
        if call is None:
            raise AttributeError(f"{artifact.name} exports no function {entry!r}")
        return Loaded(call=call, backward=functions[f"{entry}_backward"], prepare=functions[f"{entry}_prepare"])

    def _header(self, path: str, folder: Path, timeout_s: float) -> Path:
        """The header that every kernel is compiled after, precompiled once a toolchain; for clang what begins its OpenMP beside it."""
        header = folder / "kevolve_prelude.h"
        compiled = header.with_name(header.name + ".gch" if not _is_clang(path) else header.name + ".pch")
        with self._lock, _locked(folder):
            if not compiled.exists():
                if _is_clang(path):
                    _build_runtime(path, folder / _RUNTIME)
                header.write_text("#pragma once\n" + "".join(f"#include <{name}>\n" for name in _HEADERS))
                part = folder / f"part-{os.getpid()}"
                options = [flag for flag in FLAGS if flag != "-shared"]
                _run([path, *options, *_includes(), "-x", "c++-header", str(header), "-o", str(part)], timeout_s=max(timeout_s, 60.0))
                part.rename(compiled)
        return header


def _function(module: Any, name: str, tvm_ffi: Any) -> Any:
    if not module.implements_function(name):
        return None
    function = module[name]

    def call(*inputs: Any) -> Any:
        outputs = function(*inputs)
        return tuple(outputs) if isinstance(outputs, tvm_ffi.Array) else outputs

    return call


def compiler() -> str | None:
    """The path of ``$CXX``, g++ or clang++; None without any."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


@functools.cache
def _compiler_version(path: str) -> str:
    text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    return text.splitlines()[0] if text else path


def _is_clang(path: str) -> bool:
    return "clang" in _compiler_version(path)


@functools.cache
def _has_openmp(path: str) -> bool:
    """Whether clang finds its header and its library, which are a package of their own."""
    with tempfile.TemporaryDirectory(prefix="kevolve-openmp-") as folder:
        try:
            _build_runtime(path, Path(folder) / _RUNTIME)
        except BuildError:
            return False
    return True


def _build_runtime(path: str, library: Path) -> None:
    """A library whose one function begins OpenMP: the trusted part of what a kernel links. Raises ``BuildError``."""
    source = library.with_suffix(".cpp")
    source.write_text(_RUNTIME_SOURCE)
    _run([path, *FLAGS, str(source), "-o", str(library)], timeout_s=60.0)


@functools.cache
def cpu_model() -> str:
    """The processor's name and the digest of its features: what ``-march=native`` depends on."""
    with contextlib.suppress(OSError):
        fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines() if ":" in line)
        named = {name.strip(): value.strip() for name, value in fields.items()}
        return f"{named.get('model name', platform.machine())} {_digest(named.get('flags', named.get('Features', '')))[:8]}"
    return platform.machine()


@functools.cache
def _package() -> Path:
    """The folder of apache-tvm-ffi, found without importing it (that would import torch)."""
    found = importlib.util.find_spec("tvm_ffi")
    if found is None or found.origin is None:
        raise BuildError("apache-tvm-ffi is not installed: pip install apache-tvm-ffi")
    return Path(found.origin).parent


def _includes() -> list[str]:
    return ["-isystem", str(_package() / "include")]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(path: str, source: str, artifact: Path, header: Path, timeout_s: float) -> str:
    """Compile in a folder of our own, then move the result into place."""
    with tempfile.TemporaryDirectory(dir=artifact.parent, prefix="build-") as name:
        folder = Path(name)
        (folder / "kernel.cpp").write_text(source)
        library = _package() / "lib"
        link = [f"-L{library}", "-ltvm_ffi"]  # found by its name: the worker has it loaded
        command = [path, *FLAGS, *_includes(), "-include", str(header), "kernel.cpp", "-o", "kernel.so", *link]
        diagnostics = _run(command, timeout_s=timeout_s, folder=folder)
        (folder / "kernel.so").rename(artifact)
    return diagnostics


def _run(command: Sequence[str], *, timeout_s: float, folder: Path | None = None) -> str:
    """The compiler's diagnostics. Raises ``BuildError`` on an error or after ``timeout_s``; its process group is killed."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'ulimit -c 0; ulimit -v {_COMPILER_MEMORY_BYTES >> 10}; exec "$@"', "sh", *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, text = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise BuildError(f"the compiler did not end within {timeout_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    diagnostics = shortened(text)
    if process.returncode != 0:
        raise BuildError(diagnostics or f"the compiler ended with code {process.returncode}")
    return diagnostics


_INSTANTIATION = re.compile(r"^.*(required from|In instantiation of|In file included from|^\s+from ).*$")


def shortened(text: str) -> str:
    """The first errors with their source lines: no notes from headers, no template stacks, no paths of this machine."""
    lines = [_relative(line) for line in text.splitlines() if not _INSTANTIATION.match(line)]
    kept = "\n".join(lines[:_DIAGNOSTIC_LINES])
    return kept if len(kept) <= _DIAGNOSTIC_CHARS else kept[:_DIAGNOSTIC_CHARS] + " …"


def _relative(line: str) -> str:
    return line.replace(str(_package().parent) + "/", "")
