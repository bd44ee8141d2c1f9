"""Servers and children come, go, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from kevolve.evaluate import client
from kevolve.evaluate.arena import Outputs, pack, read_outputs
from kevolve.evaluate.client import Child, ChildFailed, Workers, _raised
from kevolve.evaluate.outcome import Status
from kevolve.targets.cpu import CPU

HERE = Path(__file__).parent


def refer(child: Child, name: str) -> None:
    child.call("enter", target="cpu", stage="check", deadline_s=30)
    reference = {"module": "worker_modules", "qualname": name, "file": str(HERE / "worker_modules.py"), "inputs": ["x"]}
    child.call("load_reference", reference=reference, values={}, deadline_s=60)


def doubled(child: Child, value: float) -> float:
    with pack([[torch.tensor([value])]]) as arena, Outputs() as outputs:
        fields = child.call("run", fds=(arena.fd, outputs.fd), layout=arena.layout, deadline_s=30).fields
        return float(read_outputs(outputs, fields["outputs"])[0][0])


def eventually(condition: object, *, timeout_s: float = 60.0) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.02)
    return bool(condition())  # type: ignore[operator]


def test_a_closed_child_leaves_no_process_and_no_folder(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        assert child.call("ping", deadline_s=30).fields == {"pid": child.pid}
        folder = Path(f"/proc/{child.pid}/cwd").readlink()
        assert folder.exists()
    assert not psutil.pid_exists(child.pid)
    assert not folder.exists()
    assert (child.max_rss_bytes or 0) > 1 << 20


def test_children_of_one_environment_share_a_server(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as one, workers.child(target=cpu, language="cpp") as other:
        assert psutil.Process(one.pid).ppid() == psutil.Process(other.pid).ppid()
        assert os.getpgid(one.pid) == one.pid


def test_a_killed_server_is_replaced(cpu: CPU, tmp_path: Path) -> None:
    with Workers(sys_path=[str(HERE), *sys.path], scratch=tmp_path) as workers:
        child = workers.child(target=cpu, language="cpp")
        child.call("ping", deadline_s=30)
        os.kill(psutil.Process(child.pid).ppid(), signal.SIGKILL)
        assert eventually(lambda: not psutil.pid_exists(child.pid))
        with pytest.raises(ChildFailed):
            child.call("ping", deadline_s=30)
        with workers.child(target=cpu, language="cpp") as after:
            refer(after, "twice")
            assert doubled(after, 4.0) == 8.0


def test_closing_the_workers_ends_every_child(cpu: CPU, tmp_path: Path) -> None:
    workers = Workers(sys_path=sys.path, scratch=tmp_path)
    child = workers.child(target=cpu, language="cpp")
    server = psutil.Process(child.pid).ppid()
    workers.close()
    assert not psutil.pid_exists(child.pid)
    assert not psutil.pid_exists(server)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


JUDGE = """
import sys, time
from pathlib import Path
from kevolve.evaluate.client import Workers
from kevolve.targets.cpu import CPU
workers = Workers(sys_path=sys.path, scratch=Path(sys.argv[1]))
child = workers.child(target=CPU(), language="cpp")
child.call("ping", deadline_s=60)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_judge_killed_with_signal_nine_leaves_no_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", JUDGE, str(tmp_path)], stdout=subprocess.PIPE, text=True) as judge:
        assert judge.stdout is not None
        pid = int(judge.stdout.readline())
        server = psutil.Process(pid).ppid()
        judge.kill()
    assert eventually(lambda: not psutil.pid_exists(pid) and not psutil.pid_exists(server))


def test_threads_may_ask_for_children_at_once(workers: Workers, cpu: CPU) -> None:
    results: dict[int, float] = {}

    def work(number: int) -> None:
        for _ in range(3):
            with workers.child(target=cpu, language="cpp") as child:
                refer(child, "twice")
                results[number] = doubled(child, float(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: 0.0, 1: 2.0, 2: 4.0, 3: 6.0}


def test_a_child_forks_itself_and_both_answer(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        refer(child, "twice")
        with child.fork() as fork:
            assert fork.pid != child.pid
            assert psutil.Process(fork.pid).ppid() == psutil.Process(child.pid).ppid()
            assert (doubled(fork, 3.0), doubled(child, 5.0)) == (6.0, 10.0)
            child.close()
            assert doubled(fork, 7.0) == 14.0
        assert not psutil.pid_exists(fork.pid)


def test_a_fork_that_crashes_leaves_its_parent_alone(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        refer(child, "twice")
        fork = child.fork()
        os.kill(fork.pid, signal.SIGSEGV)
        with pytest.raises(ChildFailed, match="killed by SIGSEGV"):
            fork.call("ping", deadline_s=30)
        fork.close()
        assert doubled(child, 5.0) == 10.0


def test_a_stopped_child_is_a_timeout(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(ChildFailed) as caught:
            child.call("ping", deadline_s=0.3)
        assert caught.value.status is Status.TIMEOUT


def test_a_paused_child_does_nothing_until_it_is_resumed(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child, ThreadPoolExecutor(1) as thread:
        child.pause()
        answer = thread.submit(child.call, "ping", deadline_s=30)
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.3)
        child.resume()
        assert answer.result(timeout=30).fields == {"pid": child.pid}
    child.pause()  # a child that has ended is nobody else


@pytest.mark.parametrize("command, looks", [("ping", True), ("time_bound", False)])
def test_looking_at_a_child_takes_nothing_of_a_short_timed_call(
    workers: Workers, cpu: CPU, monkeypatch: pytest.MonkeyPatch, command: str, looks: bool
) -> None:
    seen: list[bool] = []
    with workers.child(target=cpu, language="cpp") as child:
        child.call("ping", deadline_s=30)
        os.kill(child.pid, signal.SIGSTOP)
        monkeypatch.setattr(child, "_watch", lambda *, count: seen.append(count))
        with pytest.raises(ChildFailed, match="no answer"):
            child.call(command, deadline_s=0.2)
    assert bool(seen) is looks


@pytest.mark.parametrize(
    "took_s, calls, wait_s",
    [
        pytest.param(0.001, 1, 0.05, id="quick-and-alone"),
        pytest.param(0.001, 17, 0.17, id="quick-of-many"),
        pytest.param(0.001, 100, 0.25, id="however-many"),
        pytest.param(0.1, 100, 1.0, id="slow"),
    ],
)
def test_looks_at_all_children_take_a_tenth_of_the_time_and_no_child_goes_unwatched(took_s: float, calls: int, wait_s: float) -> None:
    assert client._until_next_look(took_s, calls) == pytest.approx(wait_s)


def test_an_unknown_command_is_a_failure_not_a_crash(workers: Workers, cpu: CPU) -> None:
    with workers.child(target=cpu, language="cpp") as child:
        with pytest.raises(ChildFailed, match="unknown command 'dance'"):
            child.call("dance", deadline_s=30)
        assert child.call("ping", deadline_s=30).fields == {"pid": child.pid}


def test_isolation_says_what_was_had(workers: Workers, cpu: CPU) -> None:
    assert set(workers.isolation(target=cpu, language="cpp")) == {"level", "network", "orphans", "files", "system_calls", "capabilities"}


def test_an_exception_with_a_type_that_is_no_text_is_still_described() -> None:
    assert _raised({"type": [1], "message": {"a": 2}, "traceback": [[3]]}) == "[1]: {'a': 2}\n  [3]"
