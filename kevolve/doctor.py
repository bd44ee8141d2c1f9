"""What this machine can do: targets, languages, profilers, isolation, packages, and the command that installs what is missing.

``examine`` gathers plain JSON data (``format`` 1: fields may be added, none is renamed), ``render`` writes it for people.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from kevolve import registry
from kevolve.report import text
from kevolve.report.environment import package_versions

if TYPE_CHECKING:
    from kevolve.targets import Peaks, Target

FORMAT = 1
PACKAGES = (
    "kevolve",
    "torch",
    "triton",
    "apache-tvm-ffi",
    "numpy",
    "pytest",
    "pytest-benchmark",
    "pytest-xdist",
    "hypothesis",
    "sqlalchemy",
    "openai",
    "anthropic",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiler:
    """A profiler's command. ``package``: its name by package manager, or ``page`` where none of them has it."""

    command: str
    purpose: str
    package: Mapping[str, str] | None = None
    page: str = ""

    def install(self, manager: str | None) -> str:
        """The command that installs it here, or where it is to be had."""
        if self.package is None or manager is None or manager not in self.package:
            return self.page
        return f"sudo {manager} install {self.package[manager]}"


PROFILERS = (
    Profiler(
        command="perf", purpose="processor counters", package={"apt-get": "linux-perf", "dnf": "perf"}, page="https://perfwiki.github.io"
    ),
    Profiler(
        command="valgrind",
        purpose="memory errors, native code",
        package={"apt-get": "valgrind", "dnf": "valgrind"},
        page="https://valgrind.org",
    ),
    Profiler(command="ncu", purpose="NVIDIA kernels", page="https://developer.nvidia.com/nsight-compute"),
    Profiler(command="nsys", purpose="NVIDIA time lines", page="https://developer.nvidia.com/nsight-systems"),
    Profiler(command="compute-sanitizer", purpose="memory errors, NVIDIA", page="https://developer.nvidia.com/compute-sanitizer"),
)


# (target, language) -> what confines a candidate there, by name
Isolation = Callable[["Target", str], Mapping[str, Any]]


def examine(*, cache: Path, isolation: Isolation) -> dict[str, Any]:
    """Everything, as plain data. ``cache``: where measured peaks are kept; ``isolation``: asks the worker's server."""
    languages = [_language(name) for name in registry.names("languages")]
    usable = [language["name"] for language in languages if language["missing"] is None]
    targets = [_target(name, cache, usable, isolation) for name in registry.names("targets")]
    return {
        "format": FORMAT,
        "machine": machine(),
        "targets": targets,
        "languages": languages,
        "profilers": profilers(),
        "operators": list(registry.names("operators")),
        "policies": list(registry.names("policies")),
        "packages": package_versions(PACKAGES),
        "ready": any(target["missing"] is None and set(usable) & set(target["languages"]) for target in targets),
    }


def machine() -> dict[str, Any]:
    """Processor cores, memory in bytes, system and Python."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
    }


def profilers() -> list[dict[str, Any]]:
    """Each profiler with its path and first version line, or the way to install it."""
    manager, path = package_manager(), _search_path()
    return [
        {
            "name": profiler.command,
            "purpose": profiler.purpose,
            "path": found,
            "version": _version_of(found) if found else None,
            "install": None if found else profiler.install(manager),
        }
        for profiler in PROFILERS
        for found in [shutil.which(profiler.command, path=path)]
    ]


def _search_path() -> str:
    """PATH, then the folders of the toolkits that languages know of."""
    languages = [language for name in registry.names("languages") for language, _ in [_load("languages", name)] if language is not None]
    folders = [str(folder) for language in languages for folder in getattr(language, "tool_folders", tuple)()]
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *folders])


def package_manager() -> str | None:
    """``apt-get`` or ``dnf``, whichever is here."""
    return next((name for name in ("apt-get", "dnf") if shutil.which(name)), None)


def _version_of(path: str) -> str | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [line.strip() for line in (done.stdout or done.stderr).splitlines() if any(letter.isdigit() for letter in line)]
    return lines[-1] if lines and done.returncode == 0 else None


def _load(group: str, name: str) -> tuple[Any, str | None]:
    """The object registered, or None and why its package cannot be imported: one broken package must not hide the rest."""
    try:
        return registry.load(group, name), None
    except ImportError as error:
        return None, f"its package does not import ({error}); reinstall or remove it"


def _language(name: str) -> dict[str, Any]:
    language, broken = _load("languages", name)
    if broken is not None:
        return {"name": name, "suffix": None, "missing": broken, "versions": {}}
    missing = language.missing()
    return {"name": name, "suffix": language.suffix, "missing": missing, "versions": {} if missing else dict(language.versions())}


def _target(name: str, cache: Path, usable: Sequence[str], isolation: Isolation) -> dict[str, Any]:
    target, broken = _load("targets", name)
    fields = {"name": name, "languages": [] if broken else list(target.languages), "missing": broken or target.missing()}
    if fields["missing"] is not None:
        without = {} if broken else _without_device(target)
        return fields | {"device": {}, "peaks": None, "checked_only": {}, "isolation": {}, "without_device": without}
    language = next((kind for kind in target.languages if kind in usable), None)
    return fields | {
        "device": dict(target.device()),
        "peaks": _peaks(target.peaks(cache)),
        "checked_only": {kind: why for kind in target.languages if (why := target.unmeasured(kind))},
        "isolation": dict(isolation(target, language)) if language else {},
        "without_device": {},
    }


def _without_device(target: Target) -> dict[str, str]:
    """By language, what is done with a target's kernels where its device is missing."""
    from kevolve.elsewhere import planned  # here: it imports torch

    known = [_load("languages", name)[0] for name in target.languages if name in registry.names("languages")]
    return {language.name: text for language in known if language is not None and (text := planned(target, language))}


def _peaks(peaks: Peaks) -> dict[str, Any]:
    return {
        "bandwidth": [{"footprint_bytes": size, "bytes_per_second": rate} for size, rate in peaks.bandwidth],
        "operations_per_second": dict(peaks.operations),
        "random_accesses": [{"table_bytes": size, "accesses_per_second": rate} for size, rate in peaks.random_accesses],
        "empty_call_us": peaks.empty_call_us,
    }


def render(found: Mapping[str, Any]) -> str:
    """What ``examine`` found, for people."""
    parts = [_machine_text(found["machine"])]
    parts += [_target_text(target) for target in found["targets"]]
    parts.append(_table("languages", [[item["name"], _missing(item) or _pairs(item["versions"])] for item in found["languages"]]))
    tools = [[item["name"], item["purpose"], _profiler_text(item)] for item in found["profilers"]]
    parts.append(_table("profilers", tools))
    parts.append(_table("packages", [[name, version] for name, version in found["packages"].items()]))
    parts.append(
        "ready: kernels can be built and run here" if found["ready"] else "not ready: no target has a language that can be built here"
    )
    return "\n\n".join(part for part in parts if part)


def _machine_text(machine: Mapping[str, Any]) -> str:
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB of memory"
    cores = f"{machine['usable_cores']} of {machine['cores']} cores usable"
    return f"{machine['system']}, {machine['processor']}, {cores}, {memory}, Python {machine['python']}"


def _target_text(target: Mapping[str, Any]) -> str:
    title = f"target {target['name']} ({', '.join(target['languages'])})"
    if target["missing"]:
        instead = [f"\n  {language} kernels without it: a property item {text}" for language, text in target["without_device"].items()]
        return f"{title}\n  missing: {target['missing']}{''.join(instead)}"
    rows = [[name, value] for name, value in target["device"].items()]
    peaks = target["peaks"]
    rows += [[f"bandwidth, {_size(at['footprint_bytes'])}", f"{at['bytes_per_second'] / 1e9:.1f} GB/s"] for at in peaks["bandwidth"]]
    rows += [[f"operations, {dtype}", f"{rate / 1e9:.0f} G/s"] for dtype, rate in peaks["operations_per_second"].items()]
    rows += [
        [f"random accesses, {_size(at['table_bytes'])}", f"{at['accesses_per_second'] / 1e6:.0f} M/s"] for at in peaks["random_accesses"]
    ]
    rows += [["an empty call", text.time(peaks["empty_call_us"])]] if peaks["empty_call_us"] is not None else []
    rows += [[f"{language} kernels", why] for language, why in target["checked_only"].items()]
    rows += [[f"isolation, {name}", _said(value)] for name, value in target["isolation"].items()]
    return _table(title, rows)


def _table(title: str, rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    drawn = tabulate(rows, tablefmt="plain", disable_numparse=True)
    return "\n".join([title, *(f"  {line.rstrip()}" for line in drawn.splitlines())])


def _missing(item: Mapping[str, Any]) -> str:
    return f"missing: {item['missing']}" if item["missing"] else ""


def _pairs(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items())


def _profiler_text(profiler: Mapping[str, Any]) -> str:
    if profiler["path"] is None:
        return f"not found; {profiler['install']}"
    return profiler["version"] or str(profiler["path"])


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _pairs(value) if isinstance(value, Mapping) else str(value)


def _size(size: float) -> str:
    for unit, step in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= step:
            return f"{size / step:.4g} {unit}"
    return f"{size:.0f} B"
