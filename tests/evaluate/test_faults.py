"""Candidates that crash, hang, hoard and cheat: a typed failure each, and the next candidate runs."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from kevolve.evaluate import usage
from kevolve.evaluate.arena import Outputs, pack, read_outputs
from kevolve.evaluate.channel import Garbage
from kevolve.evaluate.client import Child, ChildFailed, Workers
from kevolve.evaluate.outcome import Status
from kevolve.languages.cpp import Cpp
from kevolve.targets.cpu import CPU

SOURCE = (Path(__file__).parent / "worker_kernels.cpp").read_text()


def run(child: Child, library: Path, entry: str, *sizes: int, deadline_s: float = 30.0) -> list[list[torch.Tensor]]:
    """Load ``entry`` and call it once a size."""
    child.call("load_candidate", language="cpp", artifact=str(library), entry=entry, deadline_s=30)
    with pack([[torch.ones(size)] for size in sizes or (8,)]) as arena, Outputs() as outputs:
        reply = child.call("run", fds=(arena.fd, outputs.fd), layout=arena.layout, deadline_s=deadline_s)
        return read_outputs(outputs, reply.fields["outputs"])


def failure(child: Child, library: Path, entry: str, *sizes: int, deadline_s: float = 30.0) -> ChildFailed:
    with pytest.raises(ChildFailed) as caught:
        run(child, library, entry, *sizes, deadline_s=deadline_s)
    return caught.value


@pytest.fixture(autouse=True)
def _the_next_candidate_runs(workers: Workers, cpu: CPU, library: Path) -> object:
    """After each fault here, a good candidate in a fresh child still answers."""
    yield
    with workers.child(target=cpu, language="cpp") as after:
        after.call("enter", target="cpu", stage="check", deadline_s=30)
        assert run(after, library, "twice", 3)[0][0].tolist() == [2.0, 2.0, 2.0]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_segfault_is_a_runtime_error_that_names_the_signal_and_the_item(child: Child, library: Path) -> None:
    failed = failure(child, library, "segfaults", 1, 37, 2)
    assert (failed.status, failed.progress) == (Status.RUNTIME_ERROR, 1)
    assert failed.message == "killed by SIGSEGV (an access outside its memory)"


def test_an_endless_loop_is_a_timeout_within_its_deadline(child: Child, library: Path) -> None:
    failed = failure(child, library, "loops", deadline_s=2)
    assert (failed.status, failed.message, failed.progress) == (Status.TIMEOUT, "no answer to 'run' within 2 s", 0)
    assert gone(child.pid)


def test_taking_fifty_gigabytes_is_named_as_out_of_memory(child: Child, library: Path) -> None:
    failed = failure(child, library, "hoards", deadline_s=30)
    assert failed.status is Status.RUNTIME_ERROR
    assert failed.message.startswith("out of memory: ")


def test_where_address_space_is_not_limited_resident_memory_is_watched(workers: Workers, library: Path) -> None:
    class WithDriver(CPU):
        limits_address_space = False

    with workers.child(target=WithDriver(), language="cpp") as child:
        child.call("enter", target="cpu", stage="check", deadline_s=30)
        failed = failure(child, library, "hoards", deadline_s=60)
    assert failed.status is Status.RUNTIME_ERROR
    assert re.fullmatch(r"out of memory: \d+\.\d GiB resident, the limit is 1 GiB", failed.message)


def test_an_abort_is_a_runtime_error(child: Child, library: Path) -> None:
    failed = failure(child, library, "aborts")
    assert (failed.status, failed.message) == (
        Status.RUNTIME_ERROR,
        "killed by SIGABRT (an abort: a corrupted heap or an uncaught exception)",
    )


def test_an_endless_loop_in_python_is_a_timeout(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        child.call("enter", target="cpu", stage="check", deadline_s=30)
        child.call("load_callable", path="worker_modules:spins", deadline_s=30)
        with pack([[torch.ones(1)]]) as arena, Outputs() as outputs, pytest.raises(ChildFailed) as caught:
            child.call("run", fds=(arena.fd, outputs.fd), layout=arena.layout, deadline_s=1)
    assert (caught.value.status, caught.value.message) == (Status.TIMEOUT, "no answer to 'run' within 1 s")


@pytest.mark.parametrize("entry", ["fills", "fills_unnamed", "fills_memory"])
def test_filling_the_disk_is_stopped_whether_files_have_names_or_not(child: Child, library: Path, entry: str) -> None:
    folder = Path(f"/proc/{child.pid}/cwd").resolve()
    failed = failure(child, library, entry)
    assert failed.status is Status.RUNTIME_ERROR
    found = re.fullmatch(r"wrote (\d+\.\d) GiB to files, the limit is 0.25 GiB", failed.message)
    assert found, failed.message
    child.close()
    assert not folder.exists()


def test_files_without_number_are_stopped(child: Child, library: Path) -> None:
    assert failure(child, library, "litters").message == "made more than 10000 files"


def test_threads_without_number_are_stopped(workers: Workers, library: Path) -> None:
    class Wide(CPU):
        limits_address_space = False

    with workers.child(target=Wide(), language="cpp") as child:
        child.call("enter", target="cpu", stage="check", deadline_s=30)
        failed = failure(child, library, "spins_threads")
    assert failed.message == "made 300 threads, the limit is 300, and began another"


class Starting(CPU):
    """A target whose compiler runs in the child."""

    starts_programs = True
    writes = ()


@pytest.fixture
def starting(workers: Workers) -> Iterator[Child]:
    with workers.child(target=Starting(), language="cpp") as made:
        made.call("enter", target="cpu", stage="check", deadline_s=30)
        yield made


def test_where_programs_may_start_processes_are_made_one_by_one(starting: Child, library: Path) -> None:
    assert run(starting, library, "counts_forks", 1)[0][0].item() == 20.0


def test_a_fork_bomb_where_programs_may_start_ends_at_the_limit(starting: Child, library: Path) -> None:
    server, most = psutil.Process(starting.pid).parent(), [0]
    assert server is not None
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            most.append(len(usage.descendants(starting.pid)))

    looker = threading.Thread(target=look)
    looker.start()
    failed = failure(starting, library, "multiplies")
    ended.set()
    looker.join()
    assert failed.message == "made 64 processes, the limit is 64, and began another"
    assert max(most) <= 64 + 32  # those that were let go on by one count and had not begun by the next
    assert eventually(lambda: server.children(recursive=True) == [])


def test_a_listener_that_is_none_is_not_listened_to(starting: Child, library: Path) -> None:
    run(starting, library, "twice", 1)  # its own listener is there
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(Garbage, match="second time"):
        starting._listen((reader,))
    starting._stop_listening()
    reader, writer = os.pipe()
    starting._listen((reader,))
    assert not starting._allow()
    os.close(writer)


def called(child: Child, name: str) -> None:
    child.call("load_callable", path=f"worker_modules:{name}", deadline_s=30)
    with pack([[torch.ones(1)]]) as arena, Outputs() as outputs:
        child.call("run", fds=(arena.fd, outputs.fd), layout=arena.layout, deadline_s=30)


def test_a_fork_bomb_that_nothing_filtered_is_stopped_with_all_its_processes(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        child.call("enter", target="cpu", stage="check", deadline_s=30)
        server = psutil.Process(child.pid).parent()
        with pytest.raises(ChildFailed, match=r"made \d+ processes, the limit is 64"):
            called(child, "bombs")
        assert server is not None
        assert eventually(lambda: server.children(recursive=True) == [])


def test_a_process_that_leaves_its_group_ends_with_the_child(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        child.call("enter", target="cpu", stage="check", deadline_s=30)
        server = psutil.Process(child.pid).parent()
        assert server is not None
        called(child, "escapes")
        assert eventually(lambda: len(server.children(recursive=True)) == 2)
    assert eventually(lambda: server.children(recursive=True) == [])


def eventually(condition: Callable[[], bool], *, timeout_s: float = 60.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_heap_corruption_stays_in_its_process(child: Child, library: Path) -> None:
    # What malloc makes of overwritten sizes depends on where the heap lies: it aborts, reads where nothing is, or takes
    # whatever lies there for an arena and waits for its lock for ever (so did 8 of 40 servers).
    failed = failure(child, library, "corrupts", deadline_s=2)
    died = failed.message.startswith(("killed by SIGABRT", "killed by SIGSEGV", "killed by SIGBUS"))
    hung = failed.message == "no answer to 'run' within 2 s"
    assert (failed.status, died, hung) in [(Status.RUNTIME_ERROR, True, False), (Status.TIMEOUT, False, True)]
    assert gone(child.pid)


def test_a_block_freed_twice_is_a_runtime_error(child: Child, library: Path) -> None:
    failed = failure(child, library, "frees_twice")
    assert (failed.status, failed.message) == (
        Status.RUNTIME_ERROR,
        "killed by SIGABRT (an abort: a corrupted heap or an uncaught exception)",
    )
    assert "double free" in failed.log


def test_leaving_with_code_zero_is_a_failure(child: Child, library: Path) -> None:
    failed = failure(child, library, "quits")
    assert (failed.status, failed.message) == (Status.RUNTIME_ERROR, "exited with code 0 without a result")


def test_a_gigabyte_on_stderr_is_stopped_at_the_cap(child: Child, library: Path) -> None:
    failed = failure(child, library, "chatters")
    assert failed.message == "killed by SIGXFSZ (wrote more than a file or the log may hold)"
    assert failed.log == "x" * 4000


def test_an_exception_of_the_candidate_keeps_its_type_and_message(child: Child, library: Path) -> None:
    assert failure(child, library, "throws").message == "ValueError: cols must be even"


def test_a_failed_call_leaves_the_child_usable(child: Child, library: Path) -> None:
    assert "no such luck" in failure(child, library, "throws_std").message
    assert child.call("ping", deadline_s=30).fields == {"pid": child.pid}


def test_bytes_forged_on_the_socket_are_garbage(child: Child, library: Path) -> None:
    failed = failure(child, library, "forges")
    assert failed.status is Status.RUNTIME_ERROR
    assert failed.message.startswith("answered 'run' with something that is no message: expected the header of a message")
    assert gone(child.pid)


def test_hanging_up_is_a_failure_and_the_process_ends(child: Child, library: Path) -> None:
    assert failure(child, library, "hangs_up").message == "closed its socket without a result"
    assert gone(child.pid)


@pytest.mark.parametrize("entry", ["forks", "execs", "connects", "signals", "plants", "renices", "peeks", "reads_home"])
def test_what_is_not_allowed_fails_inside_the_candidate(child: Child, library: Path, entry: str) -> None:
    (outputs,) = run(child, library, entry, 1)
    assert outputs[0].item() == (1.0 if entry == "forks" else -1.0)
    assert not Path("/tmp/kevolve-planted.py").exists()


def test_the_scratch_directory_is_writable_and_removed(workers: Workers, cpu: CPU, library: Path) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        child.call("enter", target="cpu", stage="check", deadline_s=30)
        folder = Path(f"/proc/{child.pid}/cwd").resolve()
        assert run(child, library, "scribbles", 1)[0][0].item() == 1.0
        assert (folder / "scribble").exists()
    assert not folder.exists()


def test_raising_when_the_library_is_loaded_is_a_runtime_error(child: Child, build: Callable[..., Path]) -> None:
    source = '#include <stdexcept>\nstatic int before = [] { throw std::runtime_error("at load"); return 0; }();\n' + SOURCE
    failed = failure(child, build(source, "twice"), "twice")
    assert failed.status is Status.RUNTIME_ERROR
    assert failed.message.startswith("killed by SIGABRT")
    assert "at load" in failed.log


def test_a_module_that_raises_at_import_is_a_runtime_error(workers: Workers, cpu: CPU, tmp_path: Path) -> None:
    (tmp_path / "raising.py").write_text("raise OSError('no licence')\n")
    with Workers(sys_path=[str(tmp_path), *sys.path], scratch=tmp_path / "scratch") as others:
        child = others.child(target=cpu, language="cpp")
        with pytest.raises(ChildFailed) as caught:
            child.call("load_callable", path="raising:entry", deadline_s=30)
    assert (caught.value.status, caught.value.message) == (Status.RUNTIME_ERROR, "OSError: no licence")


def test_every_later_call_to_a_dead_child_fails_alike(child: Child, library: Path) -> None:
    first = failure(child, library, "quits")
    with pytest.raises(ChildFailed) as again:
        child.call("ping", deadline_s=30)
    assert again.value.message == first.message


def test_the_policy_would_have_refused_this_file() -> None:
    assert Cpp().policy(SOURCE, ()) == (
        "#include <arpa/inet.h>: expected a header of the C++ library, omp.h, immintrin.h, tvm/ffi/… or dlpack/…"
    )
