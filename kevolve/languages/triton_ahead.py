"""Triton kernels compiled before a device is held: launches on fake inputs compile instead of launching.

Triton specialises a kernel when it is launched, by the types of its arguments, the divisibility of its integers and pointers, and its
constants. Inside ``Compiler`` the entry function runs as it is, on tensors that have shapes and strides and no memory; every
``kernel[grid](…)`` goes Triton's own way up to the compiler, with a stand-in for the driver that names the architecture. The
cache keys are therefore those of the real launch. Works with Triton 3.6 and 3.9, on a machine without a device.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from kevolve.languages import triton_binaries
from kevolve.languages.occupancy import LIMITS, WARP

MOST_LAUNCHES = 4096  # that are told of
MOST_KERNELS = 512  # a kernel that is specialised more often than this is compiled at its launches
_DEVICE = "cuda"
_WAVE = 64  # AMD's warp
_LONGEST = 4000


class _OnNoDevice(TorchFunctionMode):
    """Sends allocations to torch's ``meta`` device, whatever device they name, and pinned ones, which a device may write."""

    inside = 0  # calls of torch's own under way, which must see fakes as what they are

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = {name: "meta" if name == "device" and value is not None else value for name, value in (kwargs or {}).items()}
        if named.pop("pin_memory", False):
            named["device"] = "meta"
        _OnNoDevice.inside += 1
        try:
            return _fake(func(*args, **named))
        finally:
            _OnNoDevice.inside -= 1


class Fake(torch.Tensor):
    """A tensor with everything but contents and a device: to a candidate it says that it lies on one."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # the mode sees every call; torch's own would look at each once more
    device = property(lambda self: torch.device("meta") if _OnNoDevice.inside else torch.device(_DEVICE, 0))
    is_cuda = property(lambda self: not _OnNoDevice.inside)
    is_meta = property(lambda self: bool(_OnNoDevice.inside))
    is_cpu = property(lambda self: False)

    def data_ptr(self) -> int:
        """Where it would lie: as aligned as its offset allows, since every allocation is aligned."""
        return int(self.storage_offset()) * self.element_size()


def _fake(value: Any) -> Any:
    if type(value) is torch.Tensor:
        return value.as_subclass(Fake) if value.is_meta else value
    if type(value) in (tuple, list):
        return type(value)(_fake(item) for item in value)
    return value


def fake(dtype: torch.dtype, shape: Sequence[int], strides: Sequence[int], offset: int) -> Fake:
    """A fake tensor of this shape, strides and storage offset (in elements)."""
    span = offset + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if 0 not in shape else offset
    whole = torch.empty(span, dtype=dtype, device="meta")
    return whole.as_strided(tuple(shape), tuple(strides), offset).as_subclass(Fake)


class _Launchable:
    """In place of a compiled kernel, which candidates may keep and launch again: launching it does nothing."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: None


class StandIn:
    """What Triton asks of a driver before a launch, and no device behind it."""

    def __init__(self, arch: str) -> None:
        from triton.backends.compiler import GPUTarget

        amd = arch.startswith("gfx")
        self._target = GPUTarget("hip", arch, _WAVE) if amd else GPUTarget(_DEVICE, int(arch.removeprefix("sm")), WARP)

    def get_current_target(self) -> Any:
        """The architecture."""
        return self._target

    def get_current_device(self) -> int:
        """The first device's number."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """The default stream."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """The first device."""
        return torch.device(_DEVICE, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compilation:
    """One specialisation to compile. ``tuned``: one of an autotuner's choices, which may fail."""

    compile: Callable[[], Any]
    tuned: bool
    timed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What came of it: the cache's ``folders`` that hold the kernel, or the ``error`` and of what ``kind`` it is."""

    name: str = ""
    shared_bytes: int = 0
    folders: Sequence[str] = ()
    kind: str = ""
    error: str = ""
    disturbed: bool = False  # the system's error, not the compiler's


class Compiler:
    """A context in which launches are noted for ``arch``; ``finish`` compiles them into ``folder``, in ``jobs`` processes at a time.

    ``timed``: set while the entry runs on the cases that will be timed; ``item``: which of the inputs it runs on.
    One at a time in a process, and in a process that ends after.
    Processes, because Triton's front end holds Python's lock for most of a compilation.
    """

    def __init__(self, arch: str, *, jobs: int, folder: Path) -> None:
        self.timed = False
        self.item = 0
        self.skipped = 0
        self._launched: list[tuple[int, str]] = []
        self._arch, self._folder, self._jobs = arch, folder, max(1, jobs)
        self._compilations: dict[str, _Compilation] = {}
        self._results: dict[str, _Result] = {}
        self._tuning = False
        self._stack = ExitStack()

    def __enter__(self) -> Compiler:
        self._folder.mkdir(parents=True, exist_ok=True)
        os.environ["TRITON_CACHE_DIR"] = str(self._folder)
        self._stack.enter_context(_intercepted(self, StandIn(self._arch)))
        self._stack.enter_context(_OnNoDevice())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fake(self, dtype: torch.dtype, shape: Sequence[int], strides: Sequence[int], offset: int) -> torch.Tensor:
        """A tensor for the entry to be called with."""
        return fake(dtype, shape, strides, offset)

    def submit(self, key: str, compile_kernel: Callable[[], Any], *_: Any) -> object:
        """Triton's hook (``AsyncCompileMode.submit``): note what is to be compiled under ``key``."""
        if key not in self._compilations and len(self._compilations) >= MOST_KERNELS:
            self.skipped += 1
        elif key not in self._compilations:
            self._compilations[key] = _Compilation(compile=compile_kernel, tuned=self._tuning, timed=self.timed)
        if not self._tuning and len(self._launched) < MOST_LAUNCHES:
            self._launched.append((self.item, key))
        return object()  # in place of the kernel, which nobody launches

    def measured(self, launch: Callable[[], Any], quantiles: Sequence[float]) -> list[float]:
        """In place of an autotuner's benchmark: compile the choice, and call all equally fast."""
        self._tuning = True
        try:
            launch()
        finally:
            self._tuning = False
        return [1.0 for _ in quantiles]

    def finish(self, timeout_s: float, told: Callable[[], object] = lambda: None) -> None:
        """Compile; what has not been begun after ``timeout_s`` is left to the first launch. ``told``: called as each is done."""
        deadline, keys = time.monotonic() + timeout_s, list(self._compilations)
        parts = [keys[number :: self._jobs] for number in range(min(self._jobs, len(keys)))]
        for part, process in [(part, _forked(partial(self._compile, part, deadline))) for part in parts]:
            self._results |= _collected(part, *process, told)
        self.skipped += sum(1 for key in keys if key not in self._results)

    def _compile(self, keys: Sequence[str], deadline: float, write: Callable[[str], object]) -> None:
        """In a process of its own: one line of JSON a kernel."""
        for key in keys:
            if time.monotonic() < deadline:
                write(json.dumps([key, asdict(_result(self._compilations[key].compile, self._folder))]) + "\n")
        write("null\n")

    @property
    def count(self) -> int:
        """How many specialisations were compiled."""
        return sum(1 for result in self._results.values() if not result.kind)

    def launches(self) -> list[tuple[int, str, str]]:
        """In order: the item, and the name and the archive's folder of the kernel that it launched."""
        found = [(item, self._results[key]) for item, key in self._launched if key in self._results]
        return [(item, result.name, result.folders[0]) for item, result in found if result.folders]

    def problems(self) -> list[str]:
        """Why launches would fail: what the compiler refused, or more shared memory than the architecture has."""
        failed = [(key, result) for key, result in self._results.items() if result.kind and not result.disturbed]
        found = [f"{result.kind}: {result.error}" for key, result in failed if not _passed_over(self._compilations[key], result.kind)]
        limits = LIMITS.get(self._arch)
        for key, result in self._results.items():
            if limits is not None and not self._compilations[key].tuned and result.shared_bytes > limits.shared_a_block_bytes:
                most = f"{self._arch} has {limits.shared_a_block_bytes} a block"
                found.append(f"OutOfResources: {result.name} needs {result.shared_bytes} bytes of shared memory, {most}")
        return found

    def disturbances(self) -> list[str]:
        """What kept the compiler from its work, and says nothing of the kernels: files, programs, memory."""
        return [f"{result.kind}: {result.error}" for result in self._results.values() if result.disturbed]

    def archive(self) -> bytes:
        """What was compiled or found compiled, for the judge to keep."""
        timed = {folder for key, result in self._results.items() if self._compilations[key].timed for folder in result.folders}
        return triton_binaries.pack(self._folder, {folder for result in self._results.values() for folder in result.folders}, timed)


def _forked(work: Callable[[Callable[[str], object]], None]) -> tuple[int, int]:
    """A copy of this process that does ``work`` and ends; its number, and the pipe that it writes to."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        os.close(reader)
        with os.fdopen(writer, "w", buffering=1) as file:  # line by line: a crash leaves what was done
            work(file.write)
    finally:
        os._exit(0)


def _collected(keys: Sequence[str], pid: int, reader: int, told: Callable[[], object]) -> dict[str, _Result]:
    """What a process wrote; one that ended early has crashed in the compiler, at the first kernel that it says nothing of."""
    lines = []
    with os.fdopen(reader) as file:
        for line in file:
            lines.append(json.loads(line))
            told()
    _, status = os.waitpid(pid, 0)
    results = {key: _Result(**fields) for key, fields in filter(None, lines)}
    if not lines or lines[-1] is not None:
        left = next((key for key in keys if key not in results), keys[-1])
        code = os.waitstatus_to_exitcode(status)
        results[left] = _Result(kind="CompilerCrashed", error=f"the compiler's process ended with {code}")
    return results


def _result(compile_kernel: Callable[[], Any], folder: Path) -> _Result:
    """One kernel compiled, and where this Triton builds a launcher for each signature (3.6), that too."""
    try:
        kernel = compile_kernel()
        build_launcher(kernel, folder)
    except Exception as error:  # noqa: BLE001  a compiler raises many things; each becomes a result
        return _Result(kind=type(error).__name__, error=str(error)[:_LONGEST], disturbed=isinstance(error, OSError))
    folders = sorted({Path(path).parent.name for path in kernel.metadata_group.values()})
    return _Result(name=str(kernel.metadata.name), shared_bytes=int(kernel.metadata.shared), folders=folders)


def _passed_over(compilation: _Compilation, kind: str) -> bool:
    """Whether Triton's autotuner takes the error for a choice that is none."""
    return compilation.tuned and kind in ("OutOfResources", "CompileTimeAssertionFailure", "PTXASError")


def build_launcher(kernel: Any, folder: Path) -> None:
    """Build the launcher, where the driver's library is here to link it with, unless one of the processes of ``folder`` has begun to.

    All kernels of a signature have the same, whatever their pointers point to. What is not built here is built at the launch, which says
    too why it cannot be.
    """
    from triton.backends.nvidia import driver

    if not hasattr(driver, "make_launcher") or kernel.metadata.target.backend != _DEVICE:
        return
    kinds = ["*" if str(kind).startswith("*") else str(kind) for kind in kernel.src.signature.values()]
    signature = repr([*kinds, getattr(kernel.metadata, "tensordesc_meta", None)])
    begun = folder / f"launcher-{hashlib.sha256(signature.encode()).hexdigest()[:24]}"
    with suppress(AssertionError, ImportError, OSError, RuntimeError, subprocess.SubprocessError):
        os.close(os.open(begun, os.O_CREAT | os.O_EXCL))
        driver.library_dirs()
        driver.CudaLauncher(kernel.src, kernel.metadata)


@contextmanager
def _intercepted(ahead: Compiler, stand_in: StandIn) -> Iterator[None]:
    """Triton's launches redirected; put back at the end."""
    from triton.runtime import _async_compile
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    run, bench = JITFunction.run, Autotuner.__dict__["do_bench"]

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool = True, **kwargs: Any) -> _Launchable:
        run(self, *args, grid=grid, warmup=True, **kwargs)
        return _Launchable()

    before = driver._active
    token = _async_compile.active_mode.set(ahead)
    JITFunction.run, Autotuner.do_bench = compile_only, staticmethod(ahead.measured)
    driver.set_active(stand_in)
    try:
        yield
    finally:
        JITFunction.run, Autotuner.do_bench = run, bench
        driver._active = before
        _async_compile.active_mode.reset(token)
