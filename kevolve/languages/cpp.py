"""C++17 with OpenMP through apache-tvm-ffi: no torch headers, about a second a build."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kevolve.languages import BuildError, Built, Loaded, listing, native
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
            return native.MISSING_FFI
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
        began, key = time.perf_counter(), native.digest(source)
        toolchain = self._toolchain(cache)
        artifact = toolchain / key[:2] / f"{key}.so"
        if artifact.exists():
            return Built(artifact=artifact, seconds=time.perf_counter() - began, cached=True)
        artifact.parent.mkdir(parents=True, exist_ok=True)
        header = self._header(path, toolchain, timeout_s)
        diagnostics = _compile(path, source, artifact, header, timeout_s)
        return Built(artifact=artifact, seconds=time.perf_counter() - began, diagnostics=diagnostics)

    def listed(self, artifact: Path) -> Mapping[str, float]:
        """Instructions by class. Raises ``BuildError`` where there is no ``objdump``, or the processor is none that it is read for."""
        missing = listing.missing()
        if missing is not None:
            raise BuildError(missing)
        try:
            return listing.listed(artifact)
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildError(f"{artifact.name} cannot be listed: {error}") from error

    def vectorisation(self, source: str, *, cache: Path, timeout_s: float) -> str:
        """What g++ says of every loop, vectorised or not; empty with clang, which says it otherwise. Raises ``BuildError``."""
        path = compiler()
        if path is None or _is_clang(path):
            return ""
        header = self._header(path, self._toolchain(cache), timeout_s)
        with tempfile.TemporaryDirectory(dir=header.parent, prefix="report-") as name:
            folder = Path(name)
            (folder / "kernel.cpp").write_text(source)
            flags = [flag for flag in FLAGS if flag != "-shared"]
            command = [path, *flags, "-fopt-info-vec-optimized-missed", *native.includes(), "-include", str(header), "-c", "kernel.cpp"]
            return native.run([*command, "-o", "kernel.o"], timeout_s=timeout_s, folder=folder)

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
        return native.load(artifact, entry)

    def _toolchain(self, cache: Path) -> Path:
        """The folder of what this compiler builds with these flags."""
        folder = cache.resolve() / "cpp" / native.digest(*self.versions().values(), *_HEADERS)[:16]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _header(self, path: str, folder: Path, timeout_s: float) -> Path:
        """The header that every kernel is compiled after, precompiled once a toolchain; for clang what begins its OpenMP beside it."""
        header = folder / "kevolve_prelude.h"
        compiled = header.with_name(header.name + ".gch" if not _is_clang(path) else header.name + ".pch")
        with self._lock, native.locked(folder):
            if not compiled.exists():
                if _is_clang(path):
                    _build_runtime(path, folder / _RUNTIME)
                header.write_text("#pragma once\n" + "".join(f"#include <{name}>\n" for name in _HEADERS))
                part = folder / f"part-{os.getpid()}"
                options = [flag for flag in FLAGS if flag != "-shared"]
                native.run(
                    [path, *options, *native.includes(), "-x", "c++-header", str(header), "-o", str(part)], timeout_s=max(timeout_s, 60.0)
                )
                part.rename(compiled)
        return header


def compiler() -> str | None:
    """The path of ``$CXX``, g++ or clang++; None without any."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


@functools.cache
def _compiler_version(path: str) -> str:
    return native.first_line(path, "--version")


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
    native.run([path, *FLAGS, str(source), "-o", str(library)], timeout_s=60.0)


@functools.cache
def cpu_model() -> str:
    """The processor's name and the digest of its features: what ``-march=native`` depends on."""
    with contextlib.suppress(OSError):
        fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines() if ":" in line)
        named = {name.strip(): value.strip() for name, value in fields.items()}
        return f"{named.get('model name', platform.machine())} {native.digest(named.get('flags', named.get('Features', '')))[:8]}"
    return platform.machine()


def _compile(path: str, source: str, artifact: Path, header: Path, timeout_s: float) -> str:
    """Compile in a folder of our own, then move the result into place."""
    with tempfile.TemporaryDirectory(dir=artifact.parent, prefix="build-") as name:
        folder = Path(name)
        (folder / "kernel.cpp").write_text(source)
        command = [path, *FLAGS, *native.includes(), "-include", str(header), "kernel.cpp", "-o", "kernel.so", *native.link()]
        diagnostics = native.shortened(native.run(command, timeout_s=timeout_s, folder=folder))
        (folder / "kernel.so").rename(artifact)
    return diagnostics
