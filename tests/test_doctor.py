import json
import os

import pytest

from kevolve import doctor, registry
from kevolve.targets import Peaks


class Machine:
    """A target that is there."""

    name = "toy"
    languages = ("toyscript", "toycode")

    def missing(self):
        return None

    def device(self):
        return {"name": "Toy 1", "arch": "toy1"}

    def peaks(self, cache):
        return Peaks(
            bandwidth=((2.0**20, 4e10), (2.0**27, 1.2e10)),
            operations={"float32": 1.5e11},
            random_accesses=((2.0**30, 2e8),),
            empty_call_us=1.6,
        )

    def unmeasured(self, language):
        return "interpreted here" if language == "toyscript" else None


class Absent(Machine):
    name = "absent"

    def missing(self):
        return "no such device; insert one"


class Toycode:
    name, suffix = "toycode", ".toy"

    def __init__(self, missing=None):
        self._missing = missing

    def missing(self):
        return self._missing

    def versions(self):
        return {"toyc": "3.1"}


def install(monkeypatch, *, targets, languages):
    groups = {"targets": targets, "languages": languages, "operators": {}, "policies": {}}

    def load(group, name):
        found = groups[group][name]
        if isinstance(found, ImportError):
            raise found
        return found

    monkeypatch.setattr(registry, "names", lambda group: tuple(groups[group]))
    monkeypatch.setattr(registry, "load", load)


def isolation(target, language):
    return {"network": "none", "language": language, "hidden": True}


@pytest.fixture
def examined(monkeypatch, tmp_path):
    broken = ImportError("No module named 'gone'")
    install(monkeypatch, targets={"toy": Machine(), "absent": Absent()}, languages={"toycode": Toycode(), "broken": broken})
    return doctor.examine(cache=tmp_path, isolation=isolation)


def test_the_fields_are_plain_data_under_stable_names(examined):
    assert json.loads(json.dumps(examined)) == examined
    assert list(examined) == ["format", "machine", "targets", "languages", "profilers", "operators", "policies", "packages", "ready"]
    assert list(examined["targets"][0]) == [
        "name",
        "languages",
        "missing",
        "device",
        "peaks",
        "checked_only",
        "isolation",
        "without_device",
    ]
    assert list(examined["targets"][0]) == list(examined["targets"][1])
    assert list(examined["languages"][0]) == ["name", "suffix", "missing", "versions"]
    assert {tuple(profiler) for profiler in examined["profilers"]} == {("name", "purpose", "path", "version", "install")}
    assert examined["format"] == 1


def test_a_target_has_its_measured_peaks_and_its_isolation(examined):
    toy, absent = examined["targets"]
    assert toy["peaks"]["bandwidth"][0] == {"footprint_bytes": 2.0**20, "bytes_per_second": 4e10}
    assert toy["checked_only"] == {"toyscript": "interpreted here"}
    assert toy["isolation"] == {"network": "none", "language": "toycode", "hidden": True}
    assert (absent["missing"], absent["peaks"]) == ("no such device; insert one", None)


def test_a_package_that_does_not_import_hides_nothing_else(examined):
    assert examined["languages"][1]["missing"] == "its package does not import (No module named 'gone'); reinstall or remove it"
    assert examined["ready"] is True


@pytest.mark.parametrize(
    ("target", "language", "ready"),
    [(Machine(), Toycode(), True), (Absent(), Toycode(), False), (Machine(), Toycode(missing="no toyc: apt-get install toyc"), False)],
)
def test_a_machine_is_ready_when_a_target_has_a_language(monkeypatch, tmp_path, target, language, ready):
    install(monkeypatch, targets={"toy": target}, languages={"toycode": language})
    assert doctor.examine(cache=tmp_path, isolation=isolation)["ready"] is ready


def test_the_text_shows_peaks_what_is_missing_and_how_to_get_it(examined):
    text = doctor.render(examined)
    for line in (
        "target toy (toyscript, toycode)",
        "  bandwidth, 1 MiB        40.0 GB/s",
        "  operations, float32     150 G/s",
        "  random accesses, 1 GiB  200 M/s",
        "  an empty call           1.60 us",
        "  missing: no such device; insert one",
        "  toycode  toyc 3.1",
        "  isolation, hidden       yes",
        "ready: kernels can be built and run here",
    ):
        assert line in text.splitlines()


def test_a_missing_profiler_comes_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: "/usr/bin/dnf" if name == "dnf" else None)
    found = {profiler["name"]: profiler["install"] for profiler in doctor.profilers()}
    assert found["valgrind"] == "sudo dnf install valgrind"
    assert found["ncu"] == "https://developer.nvidia.com/nsight-compute"


def test_without_a_package_manager_it_comes_with_its_page(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: None)
    assert {profiler["install"].partition(":")[0] for profiler in doctor.profilers()} == {"https"}


def test_a_profiler_is_found_where_a_language_has_its_toolkit(monkeypatch, tmp_path):
    class Kit(Toycode):
        def tool_folders(self):
            return (tmp_path,)

    install(monkeypatch, targets={}, languages={"toycode": Kit()})
    monkeypatch.setenv("PATH", os.defpath)
    tool = tmp_path / "ncu"
    tool.write_text("#!/bin/sh\necho Version 7.5\n")
    tool.chmod(0o755)
    found = {profiler["name"]: profiler for profiler in doctor.profilers()}
    assert (found["ncu"]["path"], found["ncu"]["version"], found["ncu"]["install"]) == (str(tool), "Version 7.5", None)


def test_what_is_done_without_a_device_is_said(monkeypatch, tmp_path):
    class Elsewhere(Absent):
        name, languages, checks_elsewhere = "absent", ("toycode",), "toy"

    install(monkeypatch, targets={"toy": Machine(), "absent": Elsewhere()}, languages={"toycode": Toycode()})
    text = doctor.render(doctor.examine(cache=tmp_path, isolation=isolation))
    assert "  toycode kernels without it: a property item checks it on target toy" in text.splitlines()
