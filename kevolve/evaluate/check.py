"""One candidate through the plan: loaded in a child, traced on a small shape, run on every draw, compared, and on a failure shrunk."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kevolve.evaluate.arena import Arena, BadMeta, Held, Image, Outputs, described_outputs, lay_out, pack, read_outputs
from kevolve.evaluate.candidate import Candidate
from kevolve.evaluate.client import Child, ChildFailed, Workers
from kevolve.evaluate.compare import compare
from kevolve.evaluate.materialise import grad_outputs
from kevolve.evaluate.operators import forbidden
from kevolve.evaluate.oracle import ReferenceFailed, blame, forward
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.evaluate.plan import Plan, of_draws, tensor_bytes
from kevolve.evaluate.referee import judged, judges
from kevolve.evaluate.shrink import shrink
from kevolve.evaluate.threads import one_thread
from kevolve.spec.spec import Draw, Spec

if TYPE_CHECKING:
    from kevolve.targets import Target

BATCH_BYTES = 64 << 20  # inputs handed over at once
_SHORT_DRAWS = 512  # of a call where timings wait for it to end: thousands of draws take half a second on a GPU
SHRINK_S = 10.0
_SHORT_SHRINK_S = 3.0  # where a trial's process has a device's context to make
_REPEATED = 8  # draws of a batch that are run a second time
_TOGETHER = 3  # times what a draw may take, all draws of a call may take: a kernel may be compiled anew for each of hundreds
_REPORTED = 40  # failing draws compared in full before the rest of a batch is left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """A draw that failed, and how."""

    draw: Draw
    outcome: Outcome


@dataclass(slots=True, kw_only=True)
class _Run:
    """One check under way. ``count``, ``excluded``, ``judged`` and ``unjudged`` grow as draws are judged."""

    workers: Workers
    spec: Spec
    candidate: Candidate
    target: Target
    deadline_s: float
    child: Child | None = None
    count: int = 0
    excluded: list[str] = field(default_factory=list)
    judged: set[int] = field(default_factory=set)  # outputs of which some draw's values were compared
    unjudged: dict[int, str] = field(default_factory=dict)  # outputs that some draw excluded, and why


def check(
    workers: Workers,
    spec: Spec,
    candidate: Candidate,
    plan: Plan,
    *,
    target: Target,
    deadline_s: float,
    kept: Sequence[Draw] = (),
    keep: Callable[[Child], None] | None = None,
) -> Outcome:
    """Judge ``candidate`` on ``kept`` counterexamples, then on the whole plan.

    ``deadline_s``: for loading, and for each batch of draws. PASSED with ``detail`` ``draws`` and ``excluded`` (counts), or the outcome of
    the first failing draw, shrunk: ``detail["draw"]`` is the JSON that replays it. RUNTIME_ERROR too where
    the spec is at fault: its reference fails (``detail["reference"]`` is True), or is so inexact that an output was never judged.
    ``keep``: given the process of a candidate that passed, which is then the caller's to close.
    """
    if not plan.draws and not kept:
        raise ValueError(f"{spec.nodeid}: a plan without draws judges nothing")
    run = _Run(workers=workers, spec=spec, candidate=candidate, target=target, deadline_s=deadline_s)
    try:
        with one_thread():
            outcome = _judge(run, plan, kept)
        if keep is not None and outcome.passed and run.child is not None:
            keep(run.child)
            run.child = None
        return outcome
    except ReferenceFailed as failed:
        return failed.outcome(Stage.PROPERTIES)
    finally:
        _end(run)
        plan.forget_huge()


def foresee(plan: Plan, target: Target) -> None:
    """Compute what is expected of every batch but a draw beyond 2^31 elements; checks then need not. Raises ``ReferenceFailed``."""
    with one_thread():
        for batch in plan.batches(BATCH_BYTES):
            for part in _parts(target, batch):
                plan.sheet(part)


def _judge(run: _Run, plan: Plan, kept: Sequence[Draw]) -> Outcome:
    refused = _start(run) or _smoke(run, plan if plan.draws else of_draws(run.spec, kept))
    if refused is not None:
        return refused
    for stage in ((of_draws(run.spec, kept),) if kept else ()) + (plan,):
        failures, failing = _run_plan(run, stage)
        if failures:
            return _report(run, stage, failures, failing)
    return _rewritten(run, plan) or _finished(run, plan)


def _rewritten(run: _Run, plan: Plan) -> Outcome | None:
    """What comes of contents that are replaced where they lie; None where every answer is of the contents that it was given."""
    assert run.child is not None
    twins = plan.twins()
    if twins is None:
        return None
    numbers = range(len(twins.draws))
    with run.workers.quiet.working():
        image, grads = twins.packed(numbers, lambda: _image(run.spec, twins, numbers))
    with Arena(image) as arena, Outputs() as outputs:
        arguments = {"layout": arena.layout, "mutates": _positions(run.spec, run.spec.mutates), **_grad(run.spec, grads)}
        try:
            with run.workers.holds.shared(run.target):
                reply = run.child.call("rewrite", deadline_s=run.deadline_s, fds=(arena.fd, outputs.fd), **arguments)
            described = reply.fields.get("outputs", ())
            with run.workers.judging:
                open_items = _unsettled(twins, numbers, outputs, described)
                found = read_outputs(outputs, described if open_items is None else [described[item] for item in open_items])
        except ChildFailed as error:
            return _with_draw(run, _failed(error, Stage.PROPERTIES), twins.draws[min(error.progress or 0, len(numbers) - 1)])
        except BadMeta as error:
            return _with_draw(run, _broken(twins.draws[0], f"a forged answer: {error}").outcome, twins.draws[0])
    compared = numbers if open_items is None else open_items
    if len(found) != len(compared):
        message = f"a forged answer: expected {len(compared)} results, got {len(found)}"
        return _with_draw(run, _broken(twins.draws[0], message).outcome, twins.draws[0])
    hacked = _library_calls(run, reply.fields.get("operators"), Stage.PROPERTIES)
    if hacked is not None:
        return _with_draw(run, hacked, twins.draws[0])
    with run.workers.judging:
        failures = _judged(run, twins, compared, found)
    if not failures:
        return None
    message = f"right on contents of their own, and wrong where they were rewritten in place: {failures[0].outcome.message}"
    return _with_draw(run, replace(failures[0].outcome, message=message), failures[0].draw)


def _library_calls(run: _Run, operators: object, stage: Stage) -> Outcome | None:
    """The outcome of a candidate that calls library operators which the spec does not allow."""
    if run.candidate.callable is not None:
        return None
    if not isinstance(operators, list) or not all(isinstance(name, str) for name in operators):
        message = f"a forged answer: expected the operators called, got {operators!r:.200}"
        return Outcome(status=Status.RUNTIME_ERROR, stage=stage, message=message)
    called = forbidden(operators, run.spec.allow)
    if not called:
        return None
    message = f"calls library operators: {', '.join(called)}; the spec allows {', '.join(run.spec.allow) or 'none'} (allow=)"
    return Outcome(status=Status.REWARD_HACK, stage=stage, message=message, detail={"operators": called})


def _finished(run: _Run, plan: Plan) -> Outcome:
    """PASSED where every output was judged on some draw: one whose values nobody compared proves nothing."""
    detail = {"draws": run.count, "excluded": len(run.excluded), "excluded_because": run.excluded[:5], "notes": list(plan.notes)}
    never = [f"output {position} was excluded on every draw, because {run.unjudged[position]}" for position in _never_judged(run)]
    if not never:
        return Outcome(status=Status.PASSED, stage=Stage.PROPERTIES, detail=detail)
    message = f"nothing could be judged: {'; '.join(never)}; widen tolerance= or mend the reference"
    return Outcome(status=Status.RUNTIME_ERROR, stage=Stage.PROPERTIES, message=message, detail=detail)


def _never_judged(run: _Run) -> list[int]:
    return sorted(run.unjudged.keys() - run.judged)


def _end(run: _Run) -> None:
    if run.child is not None:
        run.child.close()
        run.child = None


def _failed(error: ChildFailed, stage: Stage, reached: str = "") -> Outcome:
    message = error.message + (reached if error.status is Status.TIMEOUT else "")
    message += f"\n--- its output ends with\n{error.log.rstrip()}" if error.log.strip() else ""
    return Outcome(status=error.status, stage=stage, message=message, detail={"log": error.log} if error.log else {})


# --- the child ---


def _start(run: _Run) -> Outcome | None:
    """A fresh child with the candidate loaded; the outcome where it does not load."""
    _end(run)
    run.child = run.workers.child(target=run.target, language=run.candidate.language)
    try:
        with run.workers.holds.shared(run.target):  # a context is made: nobody is timed meanwhile
            run.child.call("enter", deadline_s=run.deadline_s, target=run.target.name, stage="check")
        if run.candidate.callable is not None:
            loaded = run.child.call("load_callable", deadline_s=run.deadline_s, **run.candidate.imported, **_grad(run.spec))
        else:
            artifact = {"artifact": str(run.candidate.artifact), "entry": run.candidate.entry, "backward": bool(run.spec.grad)}
            arguments: dict[str, Any] = {"language": run.candidate.language, **artifact, **_grad(run.spec)}
            loaded = run.child.call("load_candidate", deadline_s=run.deadline_s, **arguments)
        if loaded.fields.get("prepare") is True and run.spec.constant:
            run.child.call("prepare", deadline_s=run.deadline_s, positions=_positions(run.spec, run.spec.constant))
    except ChildFailed as error:
        return _failed(error, Stage.LOAD)
    return None


def _positions(spec: Spec, names: Sequence[str]) -> list[int]:
    return [spec.reference.inputs.index(name) for name in names]


def _grad(spec: Spec, count: int = 0) -> dict[str, Any]:
    return {"grad": _positions(spec, spec.grad), "grad_outputs": count}


def _smoke(run: _Run, plan: Plan) -> Outcome | None:
    """One small draw with the operators it dispatches traced: a kernel that calls the library is none."""
    assert run.child is not None
    number = plan.smallest()
    item, grads = _item(run.spec, plan, number)
    with pack([item]) as arena:
        try:
            with run.workers.holds.shared(run.target):
                reply = run.child.call("trace", deadline_s=run.deadline_s, fds=(arena.fd,), layout=arena.layout, **_grad(run.spec, grads))
        except ChildFailed as error:
            return _with_draw(run, _failed(error, Stage.SMOKE), plan.draws[number])
    return _library_calls(run, reply.fields.get("operators"), Stage.SMOKE)


# --- draws ---


def _item(spec: Spec, plan: Plan, number: int) -> tuple[tuple[Any, ...], int]:
    """What the candidate is given for a draw: the inputs, then the gradients of the outputs, and how many these are."""
    inputs = plan.inputs(number)
    if not spec.grad:
        return inputs, 0
    draw = plan.draws[number]
    with blame(spec, draw):
        grads = grad_outputs(spec, draw, forward(spec, draw, inputs))
    return (*inputs, *grads), len(grads)


def _image(spec: Spec, plan: Plan, batch: Sequence[int]) -> tuple[Image, int]:
    """A batch's items laid out, and how many of each are gradients of the outputs."""
    given = [_item(spec, plan, number) for number in batch]
    size = sum(tensor_bytes(item) for item, _ in given)
    return lay_out([item for item, _ in given], keep=len(plan.draws) > 1 and size <= 2 * BATCH_BYTES), given[0][1]


def _run_plan(run: _Run, plan: Plan) -> tuple[list[_Failure], int]:
    """The failing draws of the first batch that has any, and how many of it failed at least."""
    for batch in plan.batches(BATCH_BYTES):
        failures: list[_Failure] = []
        parts = _parts(run.target, batch)
        for part in parts:
            failures += _run_batch(run, plan, part, -(-_REPEATED // len(parts)))
            if len(failures) >= _REPORTED or not all(failure.outcome.status is Status.INCORRECT_NUMERICAL for failure in failures):
                break
        if failures:
            return failures[:_REPORTED], min(len(failures), _REPORTED)
    return [], 0


def _parts(target: Target, batch: Sequence[int]) -> Sequence[Sequence[int]]:
    """A batch as it is called: at once, or in short calls where a timing of another candidate waits for each to end."""
    if target.shares_cores:
        return [batch]
    return [batch[start : start + _SHORT_DRAWS] for start in range(0, len(batch), _SHORT_DRAWS)]


def _run_batch(run: _Run, plan: Plan, batch: Sequence[int], repeated: int = _REPEATED) -> list[_Failure]:
    """Run a batch in the child and judge every draw of it. ``repeated``: how many of its draws are run a second time."""
    assert run.child is not None
    with run.workers.quiet.working():
        image, grads = plan.packed(batch, lambda: _image(run.spec, plan, batch))
    repeat = list(range(0, len(batch), max(1, len(batch) // repeated)))[:repeated]
    mutates = _positions(run.spec, run.spec.mutates)
    on_device = len(batch) == 1 and judges(run.target, run.spec, plan.draws[batch[0]], plan.inputs(batch[0]))
    with Arena(image) as arena, Outputs() as outputs:
        arguments = {"layout": arena.layout, "mutates": mutates, "repeat": repeat, **_grad(run.spec, grads)}
        try:
            with run.workers.holds.shared(run.target):
                deadline_s = (run.deadline_s, _TOGETHER * run.deadline_s) if len(batch) > 1 else run.deadline_s
                reply = run.child.call("run", deadline_s=deadline_s, fds=(arena.fd, outputs.fd), **arguments)
            described = reply.fields.get("outputs", ())
            with run.workers.judging:
                read = described_outputs if on_device else read_outputs
                open_items = _unsettled(plan, batch, outputs, described)
                first = read(outputs, described if open_items is None else [described[item] for item in open_items])
                again = read(outputs, reply.fields.get("repeated", ()))
        except ChildFailed as error:
            # an item that it had not begun yet is none of ours to blame: then it is the batch's first; the number is the child's word
            item = min(error.progress or 0, len(batch) - 1)
            reached = f", at draw {item + 1} of {len(batch)}" if len(batch) > 1 else ""
            return [_Failure(draw=plan.draws[batch[item]], outcome=_failed(error, Stage.PROPERTIES, reached))]
        except BadMeta as error:
            return [_broken(plan.draws[batch[0]], f"a forged answer: {error}")]
        hacked = _library_calls(run, reply.fields.get("operators"), Stage.PROPERTIES)
        if hacked is not None:
            return [_Failure(draw=plan.draws[batch[0]], outcome=hacked)]
        compared = batch if open_items is None else [batch[item] for item in open_items]
        if (len(first), len(again)) != (len(compared), len(repeat)):
            message = f"a forged answer: expected {len(compared)} and {len(repeat)} results, got {len(first)} and {len(again)}"
            return [_broken(plan.draws[batch[0]], message)]
        with run.workers.judging:
            failures = _disturbed(plan, batch, arena.disturbed(mutable=mutates))
        if on_device and not failures:
            held = Held(arena=outputs, metas=[*reply.fields["outputs"], *reply.fields["repeated"]])
            return _judged_on_device(run, plan, batch[0], held)
    with run.workers.judging:
        if not failures:
            _count(run, plan, batch)
        return failures or _judged(run, plan, compared, first) or _repeated(run, plan, [batch[item] for item in repeat], again)


def _disturbed(plan: Plan, batch: Sequence[int], found: Sequence[str]) -> list[_Failure]:
    """Inputs that the candidate wrote to, or memory around them."""
    failures = []
    for text in found[:_REPORTED]:
        item, _, what = text.removeprefix("item ").partition(": ")
        message = f"wrote to {what}" + ("" if " of " in what else ", which mutates= does not name")
        failures.append(_broken(plan.draws[batch[int(item)]], message))
    return failures


def _broken(draw: Draw, message: str) -> _Failure:
    return _Failure(draw=draw, outcome=Outcome(status=Status.RUNTIME_ERROR, stage=Stage.PROPERTIES, message=message))


def _judged(run: _Run, plan: Plan, batch: Sequence[int], outputs: Sequence[Sequence[Any]]) -> list[_Failure]:
    """Compare every draw of a batch with its oracle, which is computed only now that the candidate has answered."""
    failures: list[_Failure] = []
    for number, output in zip(batch, outputs, strict=True):
        outcome = _compared(run.spec, plan, number, output)
        if not outcome.passed:
            failures.append(_Failure(draw=plan.draws[number], outcome=outcome))
            if len(failures) == _REPORTED:
                break
    return failures


def _compared(spec: Spec, plan: Plan, number: int, outputs: Sequence[Any]) -> Outcome:
    draw, widen = plan.draws[number], partial(plan.widened, number)
    return compare(spec, plan.expected(number), outputs, plan.inputs(number), draw=draw, widen=widen)


def _judged_on_device(run: _Run, plan: Plan, number: int, outputs: Held) -> list[_Failure]:
    """A large draw's outputs, first and repeated, compared by the trusted process on the target's device."""
    draw = plan.draws[number]
    found = judged(run.workers, run.target, run.spec, draw, plan.inputs(number), outputs, stage=Stage.PROPERTIES)
    run.count += 1
    if found.reason is not None:
        run.excluded.append(f"{_arguments(draw)}: {found.reason}")
    run.unjudged |= {at: why for at, why in found.unreliable.items() if at not in run.unjudged}
    run.judged |= set(range(found.outputs)) - set(found.unreliable)
    return [_Failure(draw=draw, outcome=outcome) for outcome in found.outcomes if not outcome.passed][:1]


def _unsettled(plan: Plan, batch: Sequence[int], outputs: Outputs, metas: Any) -> Sequence[int] | None:
    """Which of a batch's draws one comparison of all outputs leaves open; None: every one of them."""
    try:
        sheet = plan.sheet(batch)
    except ReferenceFailed:  # comparing one by one says so, after what the candidate did
        return None
    return None if sheet is None else sheet.unsettled(outputs, metas)


def _count(run: _Run, plan: Plan, batch: Sequence[int]) -> None:
    """Note which outputs of the draws are judged. An empty one is right whatever is computed: it judges nothing."""
    run.count += len(batch)
    for number in batch:
        expected = plan.expected(number)
        for position, output in enumerate(expected.outputs):
            if output.unreliable is not None:
                run.unjudged[position] = output.unreliable
            elif output.oracle.numel():
                run.judged.add(position)
            else:
                run.unjudged.setdefault(position, "it is empty")
        if expected.unreliable is not None:
            run.excluded.append(f"{_arguments(plan.draws[number])}: {expected.unreliable}")


def _repeated(run: _Run, plan: Plan, numbers: Sequence[int], outputs: Sequence[Sequence[Any]]) -> list[_Failure]:
    """Results of a second call with the same inputs: right once is not enough."""
    for number, output in zip(numbers, outputs, strict=True):
        outcome = _compared(run.spec, plan, number, output)
        if not outcome.passed:
            message = f"right at first, and wrong when called again with the same inputs: {outcome.message}"
            return [_Failure(draw=plan.draws[number], outcome=replace(outcome, message=message))]
    return []


# --- the report of a failure ---


def _report(run: _Run, plan: Plan, failures: Sequence[_Failure], count: int) -> Outcome:
    """The first failing draw, shrunk unless each trial would last until the deadline or take all memory once more."""
    summary = _summary(plan, failures, count)
    if failures[0].outcome.status in (Status.TIMEOUT, Status.REWARD_HACK) or failures[0].draw.origin == "huge":
        return _with_draw(run, failures[0].outcome, failures[0].draw, summary)
    alone = _alone(run, plan, failures)
    if alone is None:
        summary = "\n".join(filter(None, (summary, "no draw fails alone: it depends on the calls before")))
        return _with_draw(run, failures[0].outcome, failures[0].draw, summary)
    smallest = _shrunk(run, plan, alone)
    return _with_draw(run, smallest.outcome, smallest.draw, summary)


def _alone(run: _Run, plan: Plan, failures: Sequence[_Failure]) -> _Failure | None:
    """The first draw that fails in a child of its own; memory that was written to may have been another draw's."""
    _start(run)
    suspects = [failure.draw for failure in failures[:4]]
    after = plan.draws.index(suspects[0]) + 1
    for draw in (*suspects, *plan.draws[after : after + 1]):
        failure = _try(run, draw)
        if failure is not None:
            return failure
    return None


def _shrunk(run: _Run, plan: Plan, first: _Failure) -> _Failure:
    """The smallest failure that is found within ``SHRINK_S``."""
    deadline = time.monotonic() + (SHRINK_S if getattr(run.target, "forks_after_use", True) else _SHORT_SHRINK_S)
    known = {draw.to_json(): False for draw in plan.draws[: plan.draws.index(first.draw)]}
    known[first.draw.to_json()] = True
    found = {first.draw.to_json(): first}

    def fails(draw: Draw) -> bool:
        key = draw.to_json()
        if key in known:
            return known[key]
        failure = _try(run, draw)
        known[key] = failure is not None
        if failure is not None:
            found[key] = failure
        return known[key]

    smallest = shrink(
        run.spec,
        first.draw,
        fails,
        seed=plan.seed,
        cap=plan.cap,
        examples=plan.examples,
        may_go_on=lambda: time.monotonic() < deadline,
    )
    return found.get(smallest.to_json(), first)


def _try(run: _Run, draw: Draw) -> _Failure | None:
    """How one more draw fails, or None (where the reference fails too). A child that a former trial ended is replaced."""
    before = run.count, list(run.excluded)
    try:
        failures = _run_batch(run, of_draws(run.spec, (draw,)), [0])
    except ReferenceFailed:
        return None
    finally:
        run.count, run.excluded = before
    if failures and failures[0].outcome.status in (Status.RUNTIME_ERROR, Status.TIMEOUT):
        _start(run)
    return failures[0] if failures else None


def _summary(plan: Plan, failures: Sequence[_Failure], count: int) -> str:
    """``16 draws of the plan fail; cols at 37, 101, 165, …``."""
    if count < 2:
        return ""
    least = "at least " if count == _REPORTED else ""
    swept = [failure.draw.values for failure in failures if failure.draw.origin == "sweep"]
    names = [name for name in plan.spec.vary if len({str(values[name]) for values in swept}) > max(8, len(swept) // 2)]
    sizes = [f"{name} = {', '.join(str(values[name]) for values in swept[:8])}{', …' if len(swept) > 8 else ''}" for name in names]
    return f"{least}{count} draws of {len(plan.draws)} fail" + (f", in the sweep at {sizes[0]}" if sizes else "")


def _arguments(draw: Draw) -> str:
    """``rows=1, cols=37, dtype=float32, normal, contiguous``."""
    parts = [f"{name}={value}" for name, value in draw.values.items()]
    return ", ".join([*parts, *(part for part in (draw.distribution, draw.layout) if part)])


def _with_draw(run: _Run, outcome: Outcome, draw: Draw, summary: str = "") -> Outcome:
    """The outcome with the draw, its arguments and the line that replays it."""
    replay = f"pytest {shlex.quote(f'{run.spec.nodeid}[properties]')} --kevolve-replay {shlex.quote(draw.to_json())}"
    lines = [f"{run.candidate.name} at {_arguments(draw)}", outcome.message, summary, f"replay: {replay}"]
    counts = {"draws": run.count, "excluded": len(run.excluded)}
    detail: Mapping[str, Any] = {**outcome.detail, **counts, "draw": draw.to_json(), "replay": replay}
    return replace(outcome, message="\n".join(line for line in lines if line), detail=detail)
