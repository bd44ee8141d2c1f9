"""A measured landscape as it is stored: what every setting of a space takes on one device, or why it fails."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = Path(__file__).parent / "landscapes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """``knobs``: each knob's values, first the sample's default at the time.

    ``times_us``: by setting, in the order of ``knobs``; None where it fails.
    """

    name: str
    about: Mapping[str, Any]
    knobs: Mapping[str, tuple[Any, ...]]
    times_us: Mapping[tuple[Any, ...], float | None]

    @property
    def best_us(self) -> float:
        """The least time of any setting."""
        return min(time for time in self.times_us.values() if time is not None)


def load(path: Path) -> Landscape:
    """A stored landscape."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    data = json.loads(text)
    return Landscape(
        name=data["name"],
        about=data["about"],
        knobs={name: tuple(values) for name, values in data["knobs"].items()},
        times_us={tuple(values): time for *values, time, _ in data["settings"]},
    )


def stored(folder: Path = FOLDER) -> list[Landscape]:
    """All stored landscapes, by name."""
    return [load(path) for path in sorted([*folder.glob("*.json"), *folder.glob("*.json.gz")])]


def pack(lines: Path, folder: Path) -> None:
    """Store what ``measure`` wrote. A setting that was timed again has the median of its times."""
    from benchmarks.search.spaces import SPACES

    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    folder.mkdir(exist_ok=True)
    for space in SPACES:
        mine = [row for row in rows if row.get("space") == space.name]
        found = _results(row for row in mine if "index" in row)
        if not found:
            continue
        about = next((row for row in mine if "device" in row), {})
        about = {key: value for key, value in about.items() if key not in ("space", "problem")}
        about |= {"shapes": space.shapes, "dtype": space.dtype}
        settings = [[*space.settings()[index].values(), *found[index]] for index in sorted(found)]
        head = {"name": space.name, "about": about, "knobs": space.knobs}
        lines_of = ",\n".join(json.dumps(setting) for setting in settings)
        text = json.dumps(head, indent=1)[:-2] + f',\n "settings": [\n{lines_of}\n]}}\n'
        (folder / f"{space.name}.json").write_text(text)
        works = sum(1 for time, _ in found.values() if time is not None)
        print(f"{space.name}: {len(found)} of {len(space.settings())} settings, {works} work")


def _results(rows: Iterable[Mapping[str, Any]]) -> dict[int, tuple[float | None, str]]:
    """By setting its time, or None and why it fails; a setting that compiled and was never timed is left out."""
    times: dict[int, list[float]] = {}
    problems: dict[int, str] = {}
    for row in rows:
        if row["problem"]:
            problems.setdefault(row["index"], row["problem"])
        elif "us" in row:
            times.setdefault(row["index"], []).append(row["us"])
    failed = {index: (None, problem.splitlines()[0][:200]) for index, problem in problems.items() if index not in times}
    return {index: (round(median(found), 3), "") for index, found in times.items()} | failed
