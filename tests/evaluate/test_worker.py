"""What a child answers: outputs, gradients, traces and refusals."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from kevolve.evaluate.arena import Outputs, pack, read_outputs
from kevolve.evaluate.client import Child, ChildFailed

HERE = Path(__file__).parent


def run(
    child: Child, items: Sequence[Sequence[Any]], **arguments: Any
) -> tuple[list[list[torch.Tensor]], list[list[torch.Tensor]], list[str]]:
    """Outputs, outputs of the repeats, and what was disturbed."""
    with pack(items) as arena, Outputs() as outputs:
        fields = child.call("run", fds=(arena.fd, outputs.fd), layout=arena.layout, deadline_s=30, **arguments).fields
        return read_outputs(outputs, fields["outputs"]), read_outputs(outputs, fields["repeated"]), arena.disturbed()


def trace(child: Child, items: Sequence[Sequence[Any]], **arguments: Any) -> list[str]:
    with pack(items) as arena:
        return list(child.call("trace", fds=(arena.fd,), layout=arena.layout, deadline_s=30, **arguments).fields["operators"])


def load(child: Child, library: Path, entry: str) -> None:
    child.call("load_candidate", language="cpp", artifact=str(library), entry=entry, deadline_s=30)


def refer(child: Child, name: str, *inputs: str, **arguments: Any) -> None:
    reference = {"module": "worker_modules", "qualname": name, "file": str(HERE / "worker_modules.py"), "inputs": list(inputs)}
    child.call("load_reference", reference=reference, values={}, deadline_s=60, **arguments)


def test_a_kernel_runs_on_every_item_whatever_its_layout(child: Child, library: Path) -> None:
    load(child, library, "twice")
    items = [[torch.arange(5.0)], [torch.arange(10.0)[1::3]], [torch.tensor(1.5).expand(4)], [torch.empty(0)]]
    outputs, repeated, disturbed = run(child, items, repeat=[1])
    assert [output.tolist() for (output,) in outputs] == [(2 * x).tolist() for (x,) in items]
    assert [output.tolist() for (output,) in repeated] == [[2.0, 8.0, 14.0]]
    assert disturbed == []


def test_a_tuple_of_outputs_is_kept_in_order(child: Child, library: Path) -> None:
    load(child, library, "both")
    ((first, second),), _, _ = run(child, [[torch.tensor([3.0])]])
    assert (first.item(), second.item()) == (6.0, 1.0)


def test_no_items_is_no_outputs(child: Child, library: Path) -> None:
    load(child, library, "twice")
    assert run(child, []) == ([], [], [])


def test_fresh_memory_is_poisoned_while_checking(child: Child, library: Path) -> None:
    load(child, library, "fresh")
    ((output,),), _, _ = run(child, [[torch.ones(64)]])
    assert output.view(torch.uint8).unique().numel() == 1


def test_a_buffer_given_out_twice_shows(child: Child, library: Path) -> None:
    load(child, library, "same_buffer")
    outputs, _, _ = run(child, [[torch.tensor([1.0])], [torch.tensor([2.0])]])
    assert [output.item() for (output,) in outputs] == [2.0, 2.0]


def test_a_write_behind_an_input_is_seen_by_the_judge(child: Child, library: Path) -> None:
    load(child, library, "overrun")
    _, _, disturbed = run(child, [[torch.ones(3)], [torch.ones(4)]])
    assert "item 0: beyond the end of input 0" in disturbed


def test_a_write_to_an_input_is_seen_by_the_judge(child: Child, library: Path) -> None:
    load(child, library, "overwrite")
    assert run(child, [[torch.ones(3)]])[2] == ["item 0: input 0"]


def test_inputs_that_may_change_are_private_and_come_back_last(child: Child) -> None:
    refer(child, "add_in_place", "x", "y")
    items = [[torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])]]
    ((total, x),), ((again, _),), disturbed = run(child, items, mutates=[0], repeat=[0])
    assert (total.item(), again.item(), x.tolist(), disturbed) == (33.0, 33.0, [11.0, 22.0], [])


def test_a_reference_is_differentiated_by_autograd(child: Child) -> None:
    refer(child, "scaled", "x", "weight")
    x, weight, dy, dsum = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]), torch.tensor([1.0, 10.0]), torch.tensor(7.0)
    ((y, total, dx, dweight),), _, _ = run(child, [[x, weight, dy, dsum]], grad=[0, 1], grad_outputs=2)
    assert (y.tolist(), total.item()) == ([3.0, 10.0], 3.0)
    assert (dx.tolist(), dweight.tolist()) == ([10.0, 57.0], [1.0, 20.0])


def test_a_kernel_with_a_backward_gives_its_gradients_after_its_outputs(child: Child, library: Path) -> None:
    load(child, library, "twice")
    ((y, dx),), _, _ = run(child, [[torch.tensor([1.0]), torch.tensor([5.0])]], grad=[0], grad_outputs=1)
    assert (y.item(), dx.item()) == (2.0, 10.0)


def test_a_kernel_without_gradients_is_told_how_to_give_them(child: Child, library: Path) -> None:
    load(child, library, "both")
    with pytest.raises(ChildFailed, match="define <entry>_backward, or return"):
        run(child, [[torch.ones(1), torch.ones(1), torch.ones(1)]], grad=[0], grad_outputs=2)


def test_constants_are_prepared_by_the_kernel(child: Child) -> None:
    assert child.call("load_callable", path="worker_modules:with_bias", deadline_s=30).fields == {"backward": False, "prepare": True}
    child.call("prepare", positions=[1], deadline_s=30)
    ((y,),), _, _ = run(child, [[torch.tensor([1.0]), torch.tensor([2.0])]])
    assert y.item() == 21.0


def test_the_trace_names_the_operators_of_the_call_and_no_others(child: Child) -> None:
    refer(child, "scaled", "x", "weight")
    assert trace(child, [[torch.ones(2), torch.ones(2)]]) == ["aten::mul", "aten::sum"]


def test_a_copy_that_converts_nothing_is_traced_as_one(child: Child) -> None:
    refer(child, "sizes_read", "x")
    assert trace(child, [[torch.ones(3)]]) == ["aten::copy_", "aten::clone"]
    assert trace(child, [[torch.ones(2)]]) == ["aten::copy_", "aten::_to_copy"]


def test_a_cpp_kernel_only_allocates(child: Child, library: Path) -> None:
    load(child, library, "twice")
    assert trace(child, [[torch.ones(2)]]) == ["aten::empty"]


def test_an_output_that_is_no_tensor_is_refused(child: Child) -> None:
    child.call("load_callable", path="worker_modules:not_a_tensor", deadline_s=30)
    with pytest.raises(ChildFailed) as caught:
        run(child, [[torch.ones(2)]])
    assert caught.value.message == "BadOutput: output 0: expected a torch.Tensor, got builtins.int"


def test_an_exception_comes_with_the_lines_of_the_candidates_own_file(child: Child) -> None:
    child.call("load_callable", path="worker_modules:fails", deadline_s=30)
    with pytest.raises(ChildFailed) as caught:
        run(child, [[torch.ones(2)]])
    lines = caught.value.message.splitlines()
    assert lines[0] == "ZeroDivisionError: no rows"
    assert lines[1].endswith('in fails: raise ZeroDivisionError("no rows")')
    assert len(lines) == 2
    assert caught.value.progress == 0


def test_a_missing_entry_is_named(child: Child, library: Path) -> None:
    with pytest.raises(ChildFailed, match="exports no function 'thrice'"):
        load(child, library, "thrice")


def test_the_environment_and_descriptors_are_bare(child: Child) -> None:
    child.call("load_callable", path="worker_modules:environment", deadline_s=30)
    with pytest.raises(ChildFailed) as caught:
        run(child, [[torch.ones(1)]])
    assert caught.value.message.splitlines()[0] == (
        "RuntimeError: ['CUDA_VISIBLE_DEVICES', 'GOMP_SPINCOUNT', 'HOME', 'KMP_BLOCKTIME', 'LANG', 'OMP_NUM_THREADS', 'OMP_WAIT_POLICY', "
        "'PATH', 'TMPDIR', "
        "'TORCHINDUCTOR_CACHE_DIR', "
        "'TORCHINDUCTOR_COMPILE_THREADS', 'TRITON_HOME', 'USER'] 1 ['memfd', 'null', 'socket']"
    )


@pytest.mark.parametrize(("kernel", "blamed"), [("sleeps_at_three", 1), ("aborts_at_three", 2)])
def test_the_device_says_which_item_it_hangs_in_and_the_host_which_it_dies_in(child: Child, kernel: str, blamed: int) -> None:
    child.call("load_callable", path=f"worker_modules:{kernel}", deadline_s=30)

    def lag() -> None:
        time.sleep(0.3)
        struct.pack_into("<q", child._parts.progress, 8, 1)  # the device has come no further than the second item

    thread = threading.Thread(target=lag)
    thread.start()
    with pack([[torch.ones(count)] for count in (1, 2, 3)]) as arena, Outputs() as outputs, pytest.raises(ChildFailed) as caught:
        child.call("run", fds=(arena.fd, outputs.fd), layout=arena.layout, deadline_s=1.0)
    thread.join()
    assert caught.value.progress == blamed
