"""Launch a kept kernel in a process of its own and print ``[compilations, those found in the cache]``.

``python launches.py ARTIFACT ARCH``

Without a device the launch stops where it would start: Triton has found or compiled the kernel by then. ARCH ``device``: launch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from triton import knobs
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from kevolve.languages.triton import Triton
from kevolve.languages.triton_ahead import StandIn

SIZES = ((1, 1), (3, 16), (3, 37), (5, 16), (8, 4096))


def main(artifact: Path, arch: str) -> None:
    loaded = Triton().load(artifact, entry="rms_norm", target=None)  # type: ignore[arg-type]
    found: list[bool] = []
    knobs.compilation.listener = lambda **fields: found.append(bool(fields["cache_hit"]))
    if arch != "device":
        run: Any = JITFunction.run
        driver.set_active(StandIn(arch))
        JITFunction.run = lambda self, *args, grid, warmup, **kwargs: run(self, *args, grid=grid, warmup=True, **kwargs)
    device = "cuda" if arch == "device" else "cpu"
    for rows, cols in SIZES:
        loaded.call(torch.ones(rows, cols, device=device), torch.ones(cols, device=device))
    print(json.dumps([len(found), sum(found)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
