"""The CUDA driver by ctypes: facts about devices (in a process of their own), events and synchronisation.

Timing goes straight to the driver: what a candidate does to ``torch.cuda`` in its process does not reach these functions.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Sequence
from typing import Any

LIBRARY = "libcuda.so.1"
_MANAGEMENT = "libnvidia-ml.so.1"
# CUdevice_attribute (cuda.h)
_SMS, _L2_BYTES, _MAJOR, _MINOR, _INTEGRATED = 16, 38, 75, 76, 18
_SUCCESS = 0
_MAPPED = 0x02  # CU_MEMHOSTREGISTER_DEVICEMAP


class DriverError(RuntimeError):
    """A driver call failed; the message names the error as torch does: ``CUDA error: an illegal memory access was encountered``."""


class Driver:
    """Events on the legacy default stream, which waits for every blocking stream; the calling thread's context is the device's."""

    def __init__(self, library: Any = None) -> None:
        self._library = ctypes.CDLL(LIBRARY) if library is None else library

    def call(self, name: str, *arguments: Any) -> None:
        """Call ``name``. Raises ``DriverError``."""
        code = getattr(self._library, name)(*arguments)
        if code != _SUCCESS:
            raise DriverError(f"CUDA error: {self._text('cuGetErrorString', code)} ({self._text('cuGetErrorName', code)})")

    def _text(self, name: str, code: int) -> str:
        text = ctypes.c_char_p()
        getattr(self._library, name)(code, ctypes.byref(text))
        return text.value.decode() if text.value else f"code {code}"

    def event(self) -> ctypes.c_void_p:
        """A new event that takes times."""
        made = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(made), 0)
        return made

    def record(self, event: ctypes.c_void_p) -> None:
        """Mark the point that the default stream has come to."""
        self.call("cuEventRecord", event, None)

    def elapsed_us(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        """Microseconds between two finished events; the resolution is about half a microsecond."""
        made = ctypes.c_float()
        self.call("cuEventElapsedTime", ctypes.byref(made), start, end)
        return made.value * 1e3

    def synchronise(self) -> None:
        """Wait for every stream of the context, non-blocking ones included."""
        self.call("cuCtxSynchronize")

    def reset_persisting(self) -> None:
        """Make L2 lines that a kernel asked to keep ordinary ones again."""
        self.call("cuCtxResetPersistingL2Cache")

    def allocate(self, size: int) -> ctypes.c_void_p:
        """``size`` bytes that torch's allocator does not know of."""
        made = ctypes.c_void_p()
        self.call("cuMemAlloc_v2", ctypes.byref(made), ctypes.c_size_t(size))
        return made

    def fill(self, pointer: ctypes.c_void_p, value: int, size: int) -> None:
        """Write ``value`` into every byte, on the default stream, without waiting."""
        self.call("cuMemsetD8Async", pointer, ctypes.c_ubyte(value), ctypes.c_size_t(size), None)

    def shared(self, address: int, size: int) -> int:
        """Where the device sees ``size`` bytes of this process's memory, which it may then write to."""
        self.call("cuMemHostRegister_v2", ctypes.c_void_p(address), ctypes.c_size_t(size), _MAPPED)
        made = ctypes.c_uint64()
        self.call("cuMemHostGetDevicePointer_v2", ctypes.byref(made), ctypes.c_void_p(address), 0)
        return made.value

    def write(self, place: int, value: int) -> None:
        """Have eight bytes written when the default stream comes to it, without waiting. ``place``: as the device sees it."""
        self.call("cuStreamWriteValue64_v2", None, ctypes.c_uint64(place), ctypes.c_uint64(value), 0)

    # -- facts ---------------------------------------------------------------------------------------------------------

    def devices(self) -> list[dict[str, Any]]:
        """Name, compute capability, memory, multiprocessors, L2 and identifier of every visible device. Initialises the driver."""
        self.call("cuInit", 0)
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return [self._device(number) for number in range(count.value)]

    def _device(self, number: int) -> dict[str, Any]:
        name, total, identifier = ctypes.create_string_buffer(256), ctypes.c_size_t(), (ctypes.c_ubyte * 16)()
        self.call("cuDeviceGetName", name, 256, number)
        self.call("cuDeviceTotalMem_v2", ctypes.byref(total), number)
        self.call("cuDeviceGetUuid", identifier, number)
        return {
            "name": name.value.decode(),
            "capability": [self.attribute(_MAJOR, number), self.attribute(_MINOR, number)],
            "memory_bytes": total.value,
            "multiprocessors": self.attribute(_SMS, number),
            "l2_bytes": self.attribute(_L2_BYTES, number),
            "uuid": bytes(identifier).hex(),
        }

    def attribute(self, attribute: int, number: int = 0) -> int:
        """A device's attribute by its number in ``cuda.h``."""
        made = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(made), attribute, number)
        return made.value

    def l2_bytes(self) -> int:
        """The first visible device's L2 cache."""
        return self.attribute(_L2_BYTES)

    def version(self) -> str:
        """The CUDA version that the driver supports, ``"13.0"``."""
        made = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(made))
        return f"{made.value // 1000}.{made.value % 1000 // 10}"


def driver_version() -> str:
    """The kernel driver's release (``"580.159.04"``), or "unknown" where the management library is missing."""
    try:
        library = ctypes.CDLL(_MANAGEMENT)
    except OSError:
        return "unknown"
    text = ctypes.create_string_buffer(96)
    if library.nvmlInit_v2() != _SUCCESS or library.nvmlSystemGetDriverVersion(text, 96) != _SUCCESS:
        return "unknown"
    return text.value.decode()


def main(_: Sequence[str]) -> None:
    """Print what there is as JSON: ``{"devices": […], "cuda": "13.0", "driver": "580.…"}`` or ``{"problem": "…"}``."""
    try:
        driver = Driver()
    except OSError as error:
        sys.stdout.write(json.dumps({"problem": f"no CUDA driver: {error}"}))
        return
    try:
        found = {"devices": driver.devices(), "cuda": driver.version(), "driver": driver_version()}
    except DriverError as error:
        found = {"problem": f"the CUDA driver does not start: {error}"}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
