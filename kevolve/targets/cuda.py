"""NVIDIA GPUs. The judge learns about them from a process of its own: CUDA is never initialised where children are forked from."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kevolve.targets import BlockPolicy, BlockTimes, Peaks, Replays
from kevolve.targets.cuda_profilers import NsightCompute, TorchProfiler

if TYPE_CHECKING:
    from kevolve.targets.cuda_clock import Clock

# What the driver, Triton and torch must be told about this machine; nothing else of the caller's environment reaches a child.
PASSED_ON = (
    "LD_LIBRARY_PATH CUDA_HOME CUDA_PATH CUDA_DEVICE_ORDER NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES CC CXX "
    "TRITON_LIBCUDA_PATH TRITON_PTXAS_PATH TRITON_CUDACRT_PATH TRITON_CUDART_PATH NCCL_NVLS_ENABLE TORCH_SYMM_MEM_DISABLE_MULTICAST"
).split()
CHOICE = "KEVOLVE_DEVICE"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_PROBE = Path(__file__).with_name("cuda_driver.py")
_PROBE_S = 60.0
_OLDEST = (7, 0)  # Triton's, and torch's wheels'
_MEMORY_SHARE = 0.45  # of the device, for torch's allocations in one process: reference and candidate fit beside each other
_CROWDED = 1 / 32  # of the device: what a process that waits may hold of it
_SPACER_BYTES = 64 << 20
_JUDGED_FROM = 1 << 21


class CUDA:
    """One NVIDIA GPU: the first visible one, or the one that ``KEVOLVE_DEVICE`` names by its place among the visible ones."""

    name = "cuda"
    languages: tuple[str, ...] = ("triton", "cuda")
    shares_cores = False
    modelled = False
    limits_address_space = False  # a context reserves terabytes of addresses
    starts_programs = True  # Triton calls ptxas and a C compiler
    # the driver's files (of WSL, of a Jetson) and its shared memory; no disks
    writes = ("/dev/nvidia*", "/dev/dxg", "/dev/nvhost*", "/dev/nvmap", "/dev/shm")
    forks_after_use = False
    checks_elsewhere = "cpu"  # Triton's interpreter, where there is no GPU
    compiles_for = ("sm80", "sm90", "sm100")
    judges_from = _JUDGED_FROM
    profilers = (NsightCompute(), TorchProfiler())
    blocks = BlockPolicy(
        min_us=8_000.0,
        min_calls=5,
        max_calls=25,
        warm_calls=3,
        cache="cold (eight times the L2 is written before every call; the host queues the call meanwhile)",
        budget_s=1.0,  # one round a pair of most kernels: with two, intervals were no narrower, because processes scatter more than rounds
        quick_budget_s=0.1,
        pairs_a_process=7,
        sets=16,
        sets_bytes=2 << 30,  # several processes lie beside each other
        answered=2,  # outputs cross to the host for it
        bound_us=150.0,  # a launch through Python costs tens of microseconds that the device's clock does not see
        trim=0.125,
    )

    def __init__(self) -> None:
        self._clock: Clock | None = None
        self._spacer: Any = None

    # -- the judge's side ----------------------------------------------------------------------------------------------

    def missing(self) -> str | None:
        """Why kernels cannot run here: no Linux, a torch without CUDA, no driver, no device, one that is too old; or None."""
        if sys.platform != "linux":
            return f"the cuda target needs Linux, this is {sys.platform}"
        found = _found()
        if "problem" in found:
            return str(found["problem"])
        if _torch_cuda() is None:
            return f"torch {version('torch')} is built without CUDA; install a CUDA build: https://pytorch.org/get-started/locally/"
        if not found["devices"]:
            return "the CUDA driver sees no device" + (f" ({_VISIBLE}={os.environ[_VISIBLE]!r})" if _VISIBLE in os.environ else "")
        chosen = _chosen()
        if not 0 <= chosen < len(found["devices"]):
            return f"{CHOICE}={os.environ[CHOICE]!r}: expected a number from 0 to {len(found['devices']) - 1}"
        capability = tuple(found["devices"][chosen]["capability"])
        if capability < _OLDEST:
            return f"{found['devices'][chosen]['name']} has compute capability {_dotted(capability)}, at least {_dotted(_OLDEST)} is needed"
        return None

    def device(self) -> Mapping[str, str]:
        """The GPU, ``arch`` (``"sm90"``), memory and multiprocessors, driver, CUDA and torch; no ``arch`` where there is none."""
        common = {"os": f"{platform.system()} {platform.release()}", "python": platform.python_version(), "torch": version("torch")}
        if self.missing() is not None:
            return {"name": "no GPU", **common}
        found = _found()
        chosen = found["devices"][_chosen()]
        return {
            "name": chosen["name"],
            "arch": "sm" + "".join(map(str, chosen["capability"])),
            "memory": f"{chosen['memory_bytes'] / 2**30:.0f} GiB",
            "multiprocessors": str(chosen["multiprocessors"]),
            "l2": f"{chosen['l2_bytes'] / 2**20:.0f} MiB",
            "driver": found["driver"],
            "driver_cuda": found["cuda"],
            "torch_cuda": str(_torch_cuda()),
            **common,
        }

    def unmeasured(self, language: str) -> str | None:
        """Everything that runs here is timed."""
        return None

    def largest(self, language: str) -> int | None:
        """No cap: kernels run natively."""
        return None

    def environment(self, language: str) -> Mapping[str, str]:
        """One visible device, what the driver and the compilers need, and kernels loaded when they are first called."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return passed | {
            _VISIBLE: _visible(),
            "CUDA_MODULE_LOADING": "LAZY",
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # whoever asks for a device before a fork does not start the driver
            "CUDA_CACHE_DISABLE": "1",  # no file of one candidate serves another
            "OMP_NUM_THREADS": "4",
            "OMP_WAIT_POLICY": "passive",
            "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of processes in a child
        }

    def peaks(self, cache: Path) -> Peaks:
        """Measured on the first call (some seconds, in a process of its own) and kept in ``cache`` by device name."""
        from kevolve.targets.cuda_peaks import measured_peaks

        return measured_peaks(self, cache)

    def peaks_again(self, cache: Path) -> Peaks:
        """Measured once more; the higher figures are kept."""
        from kevolve.targets.cuda_peaks import measured_again

        return measured_again(self, cache)

    def selections(self) -> tuple[Mapping[str, str], ...]:
        """What a process must have in its environment to use each of the visible devices; as it is where one was chosen already."""
        if CHOICE in os.environ:
            return ({},)
        return tuple({CHOICE: str(place)} for place in range(len(_found().get("devices", ())))) or ({},)

    def lock_path(self) -> Path | None:
        """The file whose lock is this device's, shared by all users of the machine."""
        found = _found()
        if not found.get("devices"):
            return None
        return Path(tempfile.gettempdir()) / f"kevolve-device-{found['devices'][_chosen()]['uuid']}.lock"

    def condition(self) -> tuple[Mapping[str, float], tuple[str, ...]]:
        """Seconds that the clocks were held down so far, by reason, and the processes of others that use the device; as far as known."""
        found = _found()
        if not found.get("devices"):
            return {}, ()
        from kevolve.targets.cuda_condition import condition

        return condition(found["devices"][_chosen()]["uuid"])

    # -- the worker's side ---------------------------------------------------------------------------------------------

    def enter(self, stage: str) -> None:
        """Make the context, before any candidate is there. ``"check"``: fresh memory holds NaN (integers: the largest).

        ``"time"``: the clock is ready; after ``"check"`` too, for a rough time. ``"judge"``: nothing else. Raises ``RuntimeError``
        where the device does not start.
        """
        if stage not in ("check", "time", "judge"):
            raise ValueError(f"unknown stage: expected 'check', 'time' or 'judge', got {stage!r}")
        import torch

        torch.cuda.init()
        torch.cuda.set_device(0)
        torch.cuda.set_per_process_memory_fraction(_MEMORY_SHARE)
        torch.zeros(1, device="cuda")
        # fills what torch.empty gives; torch.use_deterministic_algorithms would import the compiler first, two seconds a child
        torch._C._set_deterministic_algorithms(stage == "check", warn_only=True)
        if stage == "time":
            self.clock()
        torch.cuda.synchronize()

    def clock(self) -> Clock:
        """This process's clock."""
        if self._clock is None:
            from kevolve.targets.cuda_clock import Clock
            from kevolve.targets.cuda_driver import Driver

            self._clock = Clock(Driver())
        return self._clock

    def place(self, tensor: Any) -> Any:
        """A copy on the device, strides kept; what lies there already stays."""
        import torch

        if tensor.device.type == "cuda":
            return tensor
        if tensor.is_contiguous():
            return tensor.to("cuda")
        if not tensor.numel():
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
        span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        return tensor.as_strided((span,), (1,)).to("cuda").as_strided(tensor.shape, tensor.stride())

    def fetch(self, tensor: Any) -> Any:
        """A copy on the host, strides kept where they leave no gaps."""
        return tensor.to("cpu")

    def fetch_all(self, tensors: Sequence[Any]) -> list[Any]:
        """Copies on the host of many tensors, contiguous ones of one dtype in one transfer."""
        import torch

        found: dict[int, Any] = {}
        together: dict[Any, list[int]] = {}
        for place, tensor in enumerate(tensors):
            if tensor.numel() and tensor.is_contiguous() and tensor.device.type == "cuda":
                together.setdefault(tensor.dtype, []).append(place)
            else:
                found[place] = self.fetch(tensor)
        for places in together.values():
            whole = torch.cat([tensors[place].reshape(-1) for place in places]).to("cpu")
            parts = whole.split([tensors[place].numel() for place in places])
            found |= {place: part.view(tensors[place].shape) for place, part in zip(places, parts, strict=True)}
        return [found[place] for place in range(len(tensors))]

    def marker(self, page: Any, offset: int) -> Callable[[int], None] | None:
        """A function that has the device write a number to ``offset`` of ``page`` when it comes to it; None where that is not possible."""
        from kevolve.targets.cuda_driver import Driver, DriverError

        driver, address = Driver(), ctypes.addressof(ctypes.c_char.from_buffer(page))
        try:
            place = driver.shared(address, len(page)) + offset
            driver.write(place, 0)
        except (AttributeError, DriverError):  # an old driver
            return None
        return functools.partial(driver.write, place)

    def synchronise(self) -> None:
        """Wait for every stream. Raises ``RuntimeError`` with the device's error."""
        import torch

        torch.cuda.synchronize()

    def reallocate(self, seed: int) -> None:
        """Give freed memory back and take a block of random size first, so that the next buffers lie elsewhere."""
        import torch

        self._spacer = None
        torch.cuda.empty_cache()
        size = random.Random(seed).randrange(1, _SPACER_BYTES >> 9) << 9
        self._spacer = torch.empty(size, dtype=torch.uint8, device="cuda")

    def crowds(self) -> bool:
        """Whether torch holds so much of the device's memory here, used or not, that other processes may lack it."""
        import torch

        return bool(torch.cuda.memory_reserved() > _CROWDED * torch.cuda.get_device_properties(0).total_memory)

    def time_block(self, call: Callable[..., Any], inputs: Sequence[tuple[Any, ...]]) -> tuple[BlockTimes, list[Any]]:
        """Time ``call(*item)`` as a user launches it, the device idle before and the cache cold; see ``cuda_clock``."""
        return self.clock().time_block(call, inputs)

    def stock(self, call: Callable[..., Any], item: tuple[Any, ...]) -> None:
        """Call untimed until torch has the memory that a block of calls needs; see ``cuda_clock``."""
        self.clock().stock(call, item)

    def capture(self, call: Callable[..., Any], sets: Sequence[tuple[Any, ...]], batch: int) -> Replays:
        """Graphs of the calls with ``sets``, ``batch`` in each. Raises ``CaptureError``; the process is then of no further use."""
        return self.clock().capture(call, sets, batch)

    def explain(self, message: str) -> str:
        """A device's error in one line, without torch's advice on debugging it."""
        return explain(message)


_MEANINGS = {
    "an illegal memory access was encountered": "the kernel read or wrote outside its tensors",
    "misaligned address": "an access whose address is no multiple of its width",
    "device-side assert triggered": "an assertion in device code failed",
    "too many resources requested for launch": "more registers or threads than a block may have",
    "unspecified launch failure": "the kernel faulted, most often by an access outside its tensors",
    "invalid configuration argument": "a grid or block size that the device does not take",
    "an illegal instruction was encountered": "code for another architecture, or a corrupted kernel",
    "the launch timed out and was terminated": "the kernel ran too long",
}
_ADVICE = re.compile(r"\n?(Search for `cuda|CUDA kernel errors might|For debugging consider|Compile with `TORCH_USE).*", re.DOTALL)


def explain(message: str) -> str:
    """A CUDA error without torch's advice, with what it means for the kernel's author; any other text as it is."""
    if "CUDA" not in message:
        return message
    short = _ADVICE.sub("", message).strip()
    meaning = next((meaning for text, meaning in _MEANINGS.items() if text in short), None)
    return f"{short} ({meaning})" if meaning else short


def _dotted(capability: Sequence[int]) -> str:
    return ".".join(map(str, capability))


@functools.cache
def _torch_cuda() -> str | None:
    """The CUDA version that torch was built for, read without importing torch; None for a build without."""
    found = importlib.util.find_spec("torch")
    folder = Path(found.origin).parent if found is not None and found.origin else None
    if folder is None or not (folder / "version.py").exists():
        return None
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", (folder / "version.py").read_text(), re.MULTILINE)
    return match.group(1) if match else None


@functools.cache
def _found() -> Mapping[str, Any]:
    """What a process that starts the driver says of it; see ``cuda_driver.main``."""
    try:
        done = subprocess.run([sys.executable, "-I", "-B", str(_PROBE)], capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return {"problem": f"the CUDA driver does not answer within {_PROBE_S:g} s"}
    try:
        return json.loads(done.stdout)  # type: ignore[no-any-return]
    except ValueError:
        return {"problem": f"the CUDA driver ended its process (exit {done.returncode}): {done.stderr.strip()[-300:]}"}


def _chosen() -> int:
    """The device's place among the visible ones; -1 for what is no number."""
    text = os.environ.get(CHOICE, "0")
    return int(text) if text.isdigit() else -1


def _visible() -> str:
    """What children may see: one device."""
    listed = [part.strip() for part in os.environ.get(_VISIBLE, "").split(",") if part.strip()]
    chosen = max(0, _chosen())
    return listed[chosen] if chosen < len(listed) else str(chosen)
