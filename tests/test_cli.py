import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from kevolve import cli, doctor


def examination(*, ready):
    machine = dict(system="Linux 6", processor="x86_64", cores=2, usable_cores=2, memory_bytes=2**33, python="3.11.7")
    return dict(format=1, machine=machine, targets=[], languages=[], profilers=[], operators=[], policies=[], packages={}, ready=ready)


@pytest.mark.parametrize(("ready", "status"), [(True, 0), (False, 1)])
def test_the_exit_status_says_whether_kernels_can_be_built(monkeypatch, capsys, ready, status):
    monkeypatch.setattr(doctor, "examine", lambda **_: examination(ready=ready))
    assert cli.main(["doctor"]) == status
    assert capsys.readouterr().out.startswith("Linux 6, x86_64, 2 of 2 cores usable, 8 GiB of memory, Python 3.11.7")


def test_json_is_what_was_examined_and_nothing_else(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda **_: examination(ready=True))
    cli.main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out) == examination(ready=True)


def test_another_system_gets_a_clear_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "kevolve: expected Linux, got darwin: use a Linux machine, a container or WSL\n"


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == (
        "usage: kevolve [-h] [--version] COMMAND …\n"
        "\n"
        "A kernel spec is a pytest test; `pytest --kevolve-optimize` writes the kernel that passes it.\n"
        "\n"
        "positional arguments:\n"
        "  COMMAND     one of those below\n"
        "\n"
        "options:\n"
        "  -h, --help  show this help message and exit\n"
        "  --version   show program's version number and exit\n"
        "\n"
        "commands:\n"
        "  doctor    say what this machine can do\n"
        "  evaluate  work off candidates that a search elsewhere left as archives\n"
        "  prompt    print what a model would be sent for the next step of a spec's search\n"
        "  report    merge run records and write them as HTML, JSON, Markdown or traces\n"
        "  search    read what searches have found: the tree, a node, a difference, JSONL\n"
        "\n"
        "`kevolve COMMAND --help` says more.\n"
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there_and_says_how_it_is_used(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: kevolve {name}")


def test_a_reader_that_stops_reading_is_no_error(monkeypatch):
    """``kevolve search tree | head``."""

    def broken(_arguments):
        raise BrokenPipeError

    monkeypatch.setattr(cli.Command, "load", lambda _self: broken)
    monkeypatch.setattr(sys, "stderr", open(os.devnull, "w"))  # noqa: PTH123, SIM115 - the command closes it
    assert cli.main(["search"]) == 0


@pytest.mark.parametrize("arguments", [[], ["docter"], ["doctor", "--yaml"]])
def test_a_wrong_command_line_has_exit_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: kevolve" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"kevolve {version('kevolve')}\n"


def test_the_doctor_examines_this_machine(tmp_path):
    """The whole command, peaks and worker server included, away from any store."""
    command = [sys.executable, "-c", "import sys; from kevolve.cli import main; sys.exit(main(['doctor', '--json']))"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    cpu = next(target for target in found["targets"] if target["name"] == "cpu")
    assert cpu["missing"] is None
    assert cpu["peaks"]["bandwidth"]
    assert cpu["device"]["arch"]
    assert {language["name"] for language in found["languages"]} >= {"cpp", "triton"}
    assert list(tmp_path.iterdir()) == []
