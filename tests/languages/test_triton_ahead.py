"""Triton kernels compiled ahead: a launch finds them, and what they need is what NVIDIA's own tools say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kevolve.languages import BuildError, CompilesAhead
from kevolve.languages.cubin import BadCubin, usage
from kevolve.languages.occupancy import LIMITS, occupancy
from kevolve.languages.triton import Triton
from kevolve.languages.triton_ahead import build_launcher
from kevolve.languages.triton_binaries import BadArchive, binaries, unpack

HERE = Path(__file__).parent
SOURCE = (HERE / "rms_norm_triton.py").read_text()
NONE: Any = None  # no target is asked for anything
COMPILE = """
import sys, torch
from pathlib import Path
from kevolve.languages.triton import Triton
from tests.languages.launches import SIZES

language, artifact, arch = Triton(), Path(sys.argv[1]), sys.argv[2]
with language.ahead(arch, jobs=2, folder=Path.cwd()) as ahead:
    loaded = language.load(artifact, entry="rms_norm", target=None)
    for rows, cols in SIZES:
        ahead.timed = cols == 4096
        loaded.call(ahead.fake(torch.float32, (rows, cols), (cols, 1), 0), ahead.fake(torch.float32, (cols,), (1,), 0))
ahead.finish(60)
Path("problems").write_text("\\n".join(ahead.problems()))
Path("archive").write_bytes(ahead.archive())
"""


def python(*arguments: str, folder: Path) -> str:
    """What a fresh interpreter prints that has ``folder`` as a worker has its scratch folder."""
    environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder), "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compiled(folder: Path, arch: str, source: str = SOURCE) -> Path:
    """The artifact with its kernels for ``arch`` kept beside it."""
    built = Triton().build(source, entry="rms_norm", target=NONE, cache=folder / "cache", timeout_s=9)
    place = folder / f"compile-{arch}"
    place.mkdir()
    python("-c", COMPILE, str(built.artifact), arch, folder=place)
    assert (place / "problems").read_text() == ""
    Triton().keep(built.artifact, "key", arch, (place / "archive").read_bytes())
    return built.artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("kept"), "sm90")


def test_triton_compiles_ahead() -> None:
    assert isinstance(Triton(), CompilesAhead)


def test_a_launch_finds_every_kernel_that_was_compiled_for_it(artifact: Path, tmp_path: Path) -> None:
    compilations, found = json.loads(python(str(HERE / "launches.py"), str(artifact), "sm90", folder=tmp_path))
    assert (compilations, found) == (4, 4)  # (5, 16) is specialised as (3, 16)


def test_without_what_was_kept_every_launch_compiles(artifact: Path, tmp_path: Path) -> None:
    alone = tmp_path / artifact.name
    alone.write_bytes(artifact.read_bytes())
    assert json.loads(python(str(HERE / "launches.py"), str(alone), "sm90", folder=tmp_path)) == [4, 0]


def test_a_users_own_process_keeps_its_cache(artifact: Path, tmp_path: Path) -> None:
    script = "import os, sys; from kevolve.languages.triton import Triton; from pathlib import Path; os.environ.pop('TMPDIR');"
    script += "Triton().load(Path(sys.argv[1]), entry='rms_norm', target=None); print('TRITON_CACHE_DIR' in os.environ, os.listdir())"
    assert python("-c", script, str(artifact), folder=tmp_path).strip() == "False []"


def test_kernels_for_another_architecture_are_not_taken(artifact: Path, tmp_path: Path) -> None:
    assert json.loads(python(str(HERE / "launches.py"), str(artifact), "sm80", folder=tmp_path)) == [4, 0]


@pytest.mark.gpu
def test_a_real_launch_finds_them_too(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.backends.cuda.is_built():
        pytest.skip("this torch has no CUDA")
    asked = "import torch; print(*torch.cuda.get_device_capability()) if torch.cuda.is_available() else None"
    capability = python("-c", asked, folder=tmp_path).split()
    if not capability:
        pytest.skip("no GPU")
    artifact = compiled(tmp_path, "sm" + "".join(capability))
    assert json.loads(python(str(HERE / "launches.py"), str(artifact), "device", folder=tmp_path)) == [4, 4]


def test_a_launcher_is_built_once_for_all_kernels_of_a_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.nvidia import driver

    built: list[list[str]] = []
    monkeypatch.setattr(driver, "make_launcher", None, raising=False)
    monkeypatch.setattr(driver, "library_dirs", list)
    monkeypatch.setattr(driver, "CudaLauncher", lambda source, _: built.append([*source.signature.values()]))
    metadata = SimpleNamespace(target=SimpleNamespace(backend="cuda"))
    for kinds in (("*fp32", "i32"), ("*fp16", "i32"), ("*fp32", "constexpr"), ("*fp32", "i32")):
        source = SimpleNamespace(signature=dict(zip("xn", kinds, strict=True)))
        build_launcher(SimpleNamespace(src=source, metadata=metadata), tmp_path)
    assert built == [["*fp32", "i32"], ["*fp32", "constexpr"]]


def test_the_needs_of_the_timed_case_are_told(artifact: Path) -> None:
    kept = Triton().kept(artifact, "key", "sm90")
    assert kept is not None
    (timed,) = [binary for binary in binaries(artifact.with_name(f"{artifact.stem}.sm90.key.zip"), "sm90") if binary.timed]
    assert timed.name == "normalise"
    assert timed.warps == 4
    assert kept == {
        "registers": timed.registers,
        "spill_bytes": timed.local_bytes,
        "shared_bytes": timed.shared_bytes,
        "occupancy": occupancy("sm90", registers=timed.registers, shared_bytes=timed.shared_bytes, warps=4),
        "kernels": 4,
    }


def test_nothing_kept_is_none(artifact: Path) -> None:
    assert Triton().kept(artifact, "another", "sm90") is None


def test_no_archive_is_a_build_error(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="left no archive of kernels: expected a ZIP file, got 4 bytes"):
        Triton().keep(artifact, "bad", "sm90", b"junk")
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"junk")
    with pytest.raises(BadArchive):
        unpack([bad], tmp_path)


# --- what a cubin says ---


@pytest.mark.parametrize("arch", ["sm80", "sm90", "sm100"])
def test_registers_and_local_memory_are_those_of_cuobjdump(tmp_path: Path, arch: str) -> None:
    triton = pytest.importorskip("triton")
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton ships no cuobjdump")
    unpack([path.with_name(f"{path.stem}.{arch}.key.zip") for path in [compiled(tmp_path, arch)]], tmp_path / "all")
    cubins = sorted((tmp_path / "all").glob("*/*.cubin"))
    assert len(cubins) == 4
    for cubin in cubins:
        text = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
        found = re.search(r"Function normalise:\s+REG:(\d+) STACK:(\d+)", text)
        assert found is not None, text
        used = usage(cubin.read_bytes())["normalise"]
        assert (used.registers, used.local_bytes) == tuple(map(int, found.groups()))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(200), bytes(range(256)) * 8])
def test_what_is_no_cubin_is_refused(data: bytes) -> None:
    with pytest.raises(BadCubin, match="expected"):
        usage(data)


def test_a_damaged_cubin_raises_nothing_else(artifact: Path, tmp_path: Path) -> None:
    unpack([artifact.with_name(f"{artifact.stem}.sm90.key.zip")], tmp_path)
    cubin = next(tmp_path.glob("*/*.cubin")).read_bytes()
    for at in range(0, len(cubin), 97):
        for damaged in (cubin[:at], cubin[:at] + b"\xff" * 8 + cubin[at + 8 :]):
            try:
                usage(damaged)
            except BadCubin:
                continue


# --- occupancy, worked out by hand ---


@pytest.mark.parametrize(
    "arch, registers, shared_bytes, warps, share",
    [
        ("sm90", 32, 0, 8, 1.0),
        ("sm90", 64, 0, 8, 0.5),
        ("sm90", 65, 0, 8, 0.375),
        ("sm90", 255, 0, 8, 0.125),
        ("sm90", 32, 227 * 1024, 8, 0.125),
        ("sm90", 32, 228 * 1024, 8, 0.0),
        ("sm90", 32, 0, 1, 0.5),  # 32 blocks of one warp
        ("sm80", 32, 40 * 1024, 4, 0.25),  # 41 KiB with what the system takes: four of 164 KiB
        ("sm86", 40, 0, 4, 1.0),
        ("sm86", 41, 0, 4, 5 / 6),
    ],
)
def test_occupancy(arch: str, registers: int, shared_bytes: int, warps: int, share: float) -> None:
    assert occupancy(arch, registers=registers, shared_bytes=shared_bytes, warps=warps) == share


def test_the_occupancy_of_an_unknown_architecture_is_unknown() -> None:
    assert "sm1" not in LIMITS
    assert occupancy("sm1", registers=32, shared_bytes=0, warps=4) is None


def test_an_archive_that_was_kept_after_a_process_was_confined_is_left_out(tmp_path: Path) -> None:
    class Unreadable:
        def read_bytes(self) -> bytes:
            raise PermissionError(13, "Permission denied")

    unpack([Unreadable()], tmp_path / "cache")  # type: ignore[list-item]
    assert not (tmp_path / "cache").exists()
