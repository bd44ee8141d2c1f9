"""CUDA C++ through apache-tvm-ffi: device code and the host function that launches it in one file, built by nvcc for one architecture."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kevolve.languages import BuildError, Built, Loaded, native, ptxas, sass
from kevolve.languages.cpp_source import normalise, parse_problem, policy_problem
from kevolve.languages.cuda_source import CUDA
from kevolve.languages.occupancy import LIMITS

if TYPE_CHECKING:
    from kevolve.targets import Target

FLAGS = ("-std=c++17", "-O3", "--ptxas-options=-v", "-shared", "-Xcompiler=-fPIC", "-cudart=static", "--expt-relaxed-constexpr")
_INSTALL = "pip install 'kevolve[cuda]' (NVIDIA's compiler from PyPI), or the CUDA toolkit with nvcc on PATH"
_SPECIFIC = 90  # from here on architectures have instructions of their own (wgmma, TMA), which "sm_90a" allows


class Cuda:
    """The language ``cuda``: nvcc (``$NVCC``, PATH, ``$CUDA_HOME``, the wheels), tensors as ``tvm::ffi::TensorView``."""

    name = "cuda"
    suffix = ".cu"
    comment = "//"
    preload = ("tvm_ffi",)  # imported by the worker's server before it forks

    def missing(self) -> str | None:
        """None where nvcc, a C++ compiler for its host code and apache-tvm-ffi are there."""
        if importlib.util.find_spec("tvm_ffi") is None:
            return native.MISSING_FFI
        if compiler() is None:
            return f"no nvcc: {_INSTALL}"
        if shutil.which("g++") is None and shutil.which("clang++") is None:
            return "no C++ compiler for nvcc's host code: apt install g++"
        return None

    def versions(self) -> Mapping[str, str]:
        """Compiler, flags and apache-tvm-ffi."""
        path = compiler()
        version = _version(path) if path else "none"
        return {"nvcc": version, "flags": " ".join(FLAGS), "tvm_ffi": importlib.metadata.version("apache-tvm-ffi")}

    def parse(self, source: str, entry: str) -> str | None:
        """Brackets that do not match, or an entry that is not exported."""
        return parse_problem(source, entry)

    def policy(self, source: str, allow: Sequence[str]) -> str | None:
        """Includes, names and calls that a kernel has no use for. ``allow`` opens nothing: no library is linked."""
        return policy_problem(source, CUDA)

    def normalise(self, source: str) -> str:
        """The tokens, one space between."""
        return normalise(source)

    def build(self, source: str, *, entry: str, target: Target, cache: Path, timeout_s: float) -> Built:
        """Compile for the target's device, or find it in ``cache``. Raises ``BuildError`` with the first diagnostics."""
        arch = target.device().get("arch", "")
        if not re.fullmatch(r"sm\d+", arch):
            raise BuildError(f"{target.name}: expected a device with an architecture such as 'sm90', got {arch!r}")
        return self.build_for(source, arch=arch, cache=cache, timeout_s=timeout_s)

    def build_for(self, source: str, *, arch: str, cache: Path, timeout_s: float) -> Built:
        """Compile for ``arch`` (``"sm90"``), with or without a device. Raises ``BuildError``."""
        path = compiler()
        if path is None:
            raise BuildError(str(self.missing()))
        began, artifact = time.perf_counter(), self._artifact(source, arch, cache)
        log = artifact.with_suffix(".txt")
        cached = artifact.exists() and log.exists()
        if not cached:
            artifact.parent.mkdir(parents=True, exist_ok=True)
            _compile(path, source, arch, artifact, log, timeout_s)
        text = log.read_text(encoding="utf-8")
        return Built(
            artifact=artifact,
            seconds=time.perf_counter() - began,
            cached=cached,
            diagnostics=native.shortened(ptxas.remarks(text)),
            resources=ptxas.resources(text),
        )

    def _artifact(self, source: str, arch: str, cache: Path) -> Path:
        key = native.digest(source, arch, *self.versions().values())
        return cache.resolve() / "cuda" / key[:2] / f"{key}.so"

    def outline(self, source: str, *, cache: Path) -> str:
        """What the machine code of a source that was built into ``cache`` does, in order; nothing where it was not, or cannot be listed."""
        built = [artifact for arch in LIMITS if (artifact := self._artifact(source, arch, cache)).exists()]
        if not built:
            return ""
        try:
            kernels = sass.listed(max(built, key=lambda artifact: artifact.stat().st_mtime))
        except (OSError, subprocess.SubprocessError) as error:
            return f"Its machine code cannot be listed: {error}"
        return ptxas.demangled(sass.outline(kernels))

    def tool_folders(self) -> tuple[Path, ...]:
        """Where the toolkit's programs are, profilers among them."""
        return tuple(dict.fromkeys(Path(path).parent for name in _places() if name and (path := shutil.which(name))))

    def load(self, artifact: Path, *, entry: str, target: Target) -> Loaded:
        """The library's functions; tuples for returned arrays."""
        return native.load(artifact, entry)


def compiler() -> str | None:
    """The path of nvcc: ``$NVCC``, PATH, ``$CUDA_HOME`` and the usual folder, then NVIDIA's wheels; None without any."""
    return next((path for name in _places() if name and (path := shutil.which(name))), None)


def _places() -> Iterator[str]:
    yield os.environ.get("NVCC", "")
    yield "nvcc"
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        yield str(Path(home) / "bin" / "nvcc") if home else ""
    for folder in _wheel_folders():
        yield str(folder / "bin" / "nvcc")


def _wheel_folders() -> Iterator[Path]:
    """Where NVIDIA's wheels put a toolkit: ``nvidia/cu13`` since CUDA 13."""
    found = importlib.util.find_spec("nvidia")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        yield from sorted(Path(folder).glob("cu[0-9]*"), reverse=True)


@functools.cache
def _version(path: str) -> str:
    release = re.search(r"release [\d.]+, V([\d.]+)", native.said(path, "--version"))
    return release.group(1) if release else path


def _generate(arch: str) -> str:
    """Nvcc's option. Not ``-arch``: with ``sm_90a`` that translates for plain ``compute_90`` too, which lacks what the ``a`` stands for."""
    number = int(arch.removeprefix("sm"))
    name = f"{number}a" if number >= _SPECIFIC else f"{number}"
    return f"-gencode=arch=compute_{name},code=sm_{name}"


def _compile(path: str, source: str, arch: str, artifact: Path, log: Path, timeout_s: float) -> None:
    """Compile in a folder of our own, then move the results into place, the library last."""
    with tempfile.TemporaryDirectory(dir=artifact.parent, prefix="build-") as name:
        folder = Path(name)
        (folder / "kernel.cu").write_text(source, encoding="utf-8")
        command = [path, _generate(arch), *FLAGS, *native.includes(), "kernel.cu", "-o", "kernel.so", *native.link()]
        environment = {**os.environ, "TMPDIR": str(folder)}
        text = native.run([*command, *_libraries(path)], timeout_s=timeout_s, folder=folder, environment=environment)
        (folder / "kernel.txt").write_text(ptxas.demangled(text), encoding="utf-8")
        (folder / "kernel.txt").rename(log)
        (folder / "kernel.so").rename(artifact)


def _libraries(path: str) -> list[str]:
    """Where the wheels' nvcc finds the static runtime: it looks in ``lib64``, they have ``lib``."""
    folder = Path(path).resolve().parents[1] / "lib"
    return [f"-L{folder}"] if (folder / "libcudart_static.a").exists() else []
