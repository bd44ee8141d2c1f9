"""A coding agent's command in a folder: what it finds there, its evaluations, and what it leaves."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Message, Model, ModelFailed, Reply, Request, Text
from kevolve.models.recorded import Recorder, Recording
from kevolve.operators.agent import Agent, Limits
from kevolve.search.budget import Budget
from kevolve.search.crew import Evaluated, Operation
from kevolve.search.greedy import Greedy
from kevolve.search.loop import Search
from kevolve.search.node import Graph, Proposal
from kevolve.search.policies import Step
from kevolve.search.replay import Recorded, same_graph
from kevolve.search.replay import Recording as Stored
from kevolve.search.step import Arm
from kevolve.store.graph_store import GraphStore
from tests.operators.agent.test_agent_prompt import FakeLibrary, diagnose
from tests.operators.scripted import KERNEL, USAGE, FakeLab, Plain, context, node

NEW = "// rms_norm: speed 1.9\nint block = 2;\n"
SAID = "hypothesis: rows are read twice\npredicted gain: 1.4x\nidea: one pass\n"


class Command:
    """A shell script as a coding agent: runs in the folder with the prompt on its input, as ``command:`` does."""

    tools, works_in_folder = False, True
    name = "command:tiny {workspace}"

    def __init__(self, script: str) -> None:
        self.script = script
        self.folder = Path()
        self.errors = ""

    def reply(self, request: Request) -> Reply:
        assert request.workspace is not None
        self.folder = request.workspace
        done = subprocess.run(
            ["/bin/sh", "-c", self.script],
            cwd=request.workspace,
            input=request.system,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        self.errors = done.stderr
        if done.returncode:
            raise ModelFailed("command", f"expected exit status 0, got {done.returncode}")
        parts = (Text(text=done.stdout),) if done.stdout else ()
        return Reply(message=Message(role="assistant", parts=parts), usage=USAGE, stop="done", model=self.name)


def propose(script: str, *, step: Step = Step(parents=(1,)), limits: Limits | None = None, **agent) -> tuple[Proposal, Command]:  # noqa: B008 - a value
    model = Command(script)
    made = Agent([model], limits=limits, language=lambda name: Plain(), **agent)
    return made.propose(context([node(1)]), step, 1)[0], model


def test_the_file_that_is_left_is_the_kernel_and_its_prediction_is_read_from_the_output(tmp_path: Path):
    script = f"printf '%s' '{NEW}' > kernel.cpp; ./evaluate time; printf '%s' '{SAID}'"
    proposal, model = propose(script, workspaces=tmp_path)
    assert (proposal.source, proposal.problem, proposal.model) == (NEW, "", Command.name)
    assert (proposal.hypothesis, proposal.predicted_gain, proposal.idea) == ("rows are read twice", 1.4, "one pass")
    note = json.loads(proposal.transcript)["notes"][0]
    assert (note["evaluate"], note["failed"]) == ("time", False)
    assert "`small`: 1.90x" in note["answer"]
    assert model.errors == ""
    assert list(tmp_path.iterdir()) == []


def test_the_folder_holds_prompt_spec_parent_and_knowledge():
    script = "head -c 200 PROMPT.md SPEC.md; cat kernel.cpp parent.cpp; cat knowledge/*; ls; printf x >> kernel.cpp"
    proposal, _ = propose(script, library=FakeLibrary(), diagnose=diagnose)
    said = json.loads(proposal.transcript)["messages"][1]["parts"][0]["text"]
    assert "You are an expert in cpp kernels" in said
    assert "# Spec: rms_norm" in said
    assert said.count("// rms_norm: the parent") == 2
    assert "Hold a row in registers" in said
    assert "PROMPT.md\nSPEC.md\nevaluate\nkernel.cpp\nknowledge\nparent.cpp" in said
    assert "./evaluate check" in json.loads(proposal.transcript)["system"]
    assert proposal.source == KERNEL + "x\n"


def test_an_author_in_a_folder_gets_whole_documents_and_a_list_of_them():
    script = "cat knowledge/INDEX.md; grep -c 'in registers between' knowledge/samples-normalisation-rows.md; printf x >> kernel.cpp"
    proposal, _ = propose(script, library=FakeLibrary("Hold a row in registers between two reductions.\n"), diagnose=diagnose)
    kept = json.loads(proposal.transcript)
    said = kept["messages"][1]["parts"][0]["text"]
    assert said == "Documents, the most fitting first:\n\n- A row in registers: `samples-normalisation-rows.md`\n3\n"
    assert "`knowledge/` (documents, whole" in kept["system"]


def test_without_a_library_nothing_is_said_of_documents():
    proposal, _ = propose("ls; printf x >> kernel.cpp")
    kept = json.loads(proposal.transcript)
    assert "knowledge" not in kept["system"] + kept["messages"][1]["parts"][0]["text"]


def test_where_the_device_is_elsewhere_no_timing_is_offered_and_asking_for_one_says_why():
    class Distant(FakeLab):
        times = False

    model = Command(f"./evaluate time; ./evaluate check; printf '%s' '{NEW}' > kernel.cpp")
    made = Agent([model], language=lambda name: Plain())
    (proposal,) = made.propose(context([node(1)], lab=Distant()), Step(parents=(1,)), 1)
    kept = json.loads(proposal.transcript)
    assert "./evaluate time" not in kept["system"]
    assert "the kernel is timed there after you have finished" in kept["system"]
    assert kept["notes"][0]["answer"] == "time: not here: that waits for the device, which is on another machine"
    assert kept["notes"][1]["answer"].startswith("Right on the whole development plan.")


def asked_of(model: Model) -> Proposal:
    return Agent([model], language=lambda name: Plain()).propose(context([node(1)]), Step(parents=(1,)), 1)[0]


@pytest.mark.parametrize("status", [0, 1])
def test_a_recorded_exchange_replays_its_folder_without_the_command(tmp_path: Path, status: int):
    wrong, right = (f"printf '%s' '{text}' > kernel.cpp; ./evaluate " for text in (NEW + "int wrong;", NEW))
    live = Command(f"{wrong} check; {right} time; printf '%s' '{SAID}' > NOTES.md; echo more > other.txt; exit {status}")
    exchanges = tmp_path / "exchanges.jsonl"
    first = asked_of(Recorder(exchanges).around(live))
    again = asked_of(Recording(exchanges).model(Command.name))
    assert first.source == NEW
    assert (again.source, again.problem, again.hypothesis, again.usage) == (first.source, first.problem, first.hypothesis, first.usage)
    notes, notes_again = (json.loads(each.transcript)["notes"] for each in (first, again))
    assert [note.get("evaluate") for note in notes][:2] == ["check", "time"]
    assert notes_again == notes
    assert "other.txt" not in exchanges.read_text()


def searched(store: GraphStore, model: Model, **given) -> Search:
    """Three steps of a coding agent, each of whose kernels is judged by its length."""
    agent = Agent([model], language=lambda name: Plain())

    def propose(graph: Graph, step: Step, language: str, count: int) -> list[Proposal]:
        return agent.propose(context(graph.nodes), step, count)

    def evaluate(batch: Sequence[Proposal]) -> Iterator[Evaluated]:
        passed = Outcome(status=Status.PASSED, stage=Stage.QUICK, message="judged")
        return (Evaluated(proposal=each, outcome=passed, fitness=float(len(each.source)), seconds=0.0) for each in batch)

    values = dict(spec="s", spec_hash="h", target="cpu", languages=("cpp",), run=store.start_run(arguments=[], environment={}), store=store)
    values |= dict(
        operators=(Operation(name="agent", propose=propose, arms=(Arm(operator="agent", model=model.name),)),), evaluate=evaluate
    )
    values |= dict(
        policy=Greedy(), normalise=lambda language, source: source, budget=Budget(evaluations=3), monotonic=time.monotonic, seed=5
    )
    values |= dict(seed=5, in_flight=1)  # what is asked of the second step must not depend on when the first was answered
    return Search(**values | given)


def test_a_search_whose_steps_were_made_in_folders_replays_from_its_store_and_from_its_exchanges(tmp_path: Path):
    script = f"printf '// rms_norm %s' \"$(date +%N)\" > kernel.cpp; ./evaluate time; printf '%s' '{SAID}'"
    exchanges = tmp_path / "exchanges.jsonl"
    with GraphStore(tmp_path / "a") as store, GraphStore(tmp_path / "b") as fresh, GraphStore(tmp_path / "c") as third:
        found = searched(store, Recorder(exchanges).around(Command(script))).run()
        assert len({node.source_hash for node in found.graph.nodes}) == 3
        (record,) = store.searches()
        crew = Recorded(Stored.of(store.steps(record.id), store.nodes("s", "cpu"), reason=record.reason))
        searched(fresh, Command("exit 1"), crew=crew, monotonic=crew.clock).run()
        assert same_graph(store.nodes("s", "cpu"), fresh.nodes("s", "cpu")) is None
        searched(third, Recording(exchanges).model(Command.name)).run()
        assert [node.source_hash for node in third.nodes("s", "cpu")] == [node.source_hash for node in store.nodes("s", "cpu")]


def test_an_evaluation_that_fails_says_so_by_its_text_and_exit_status():
    script = "printf 'int wrong;' > kernel.cpp; ./evaluate check && exit 9; ./evaluate shell && exit 9; "
    script += f"printf '%s' '{NEW}' > kernel.cpp; ./evaluate compile || exit 9"
    proposal, _ = propose(script)
    first, second, third = json.loads(proposal.transcript)["notes"]
    assert "INCORRECT_NUMERICAL" in first["answer"]
    assert second["answer"] == "expected one of compile, check, time, profile, got 'shell'"
    assert "Built." in third["answer"]
    assert proposal.source == NEW


def test_evaluations_are_limited():
    script = f"printf '%s' '{NEW}' > kernel.cpp; ./evaluate check; ./evaluate check; ./evaluate check; true"
    proposal, _ = propose(script, limits=Limits(calls=2))
    answers = [note["answer"] for note in json.loads(proposal.transcript)["notes"]]
    assert "[left: 1 evaluations]" in answers[0]
    assert answers[2].startswith("no evaluation is left")


def test_a_prediction_may_stand_in_a_file():
    proposal, _ = propose(f"printf '%s' '{NEW}' > kernel.cpp; printf '%s' '{SAID}' > NOTES.md")
    assert (proposal.hypothesis, proposal.predicted_gain) == ("rows are read twice", 1.4)


def test_a_kernel_in_the_reply_counts_where_the_file_is_as_it_was():
    proposal, _ = propose(f"printf '%s\\n```cpp\\n%s```\\n' '{SAID}' '{NEW}'")
    assert (proposal.source, proposal.hypothesis) == (NEW, "rows are read twice")


def test_a_command_that_changes_nothing_is_a_step_without_a_kernel():
    proposal, _ = propose("echo nothing to do")
    assert proposal.problem.startswith("the command left no kernel to try: the kernel is as it was")
    assert proposal.source == "nothing to do\n"


def test_a_command_that_fails_leaves_what_it_had_right():
    proposal, _ = propose(f"printf '%s' '{NEW}' > kernel.cpp; ./evaluate time; printf 'half a ker' > kernel.cpp; exit 3")
    assert (proposal.source, proposal.problem) == (NEW, "")
    assert json.loads(proposal.transcript)["ended"] == "model failed (command): expected exit status 0, got 3"


@pytest.mark.parametrize(
    "script", ["ln -sf /etc/passwd kernel.cpp", "rm kernel.cpp", "rm kernel.cpp; mkdir kernel.cpp", "rm kernel.cpp; mkfifo kernel.cpp"]
)
def test_what_is_no_regular_file_is_never_read(script: str):
    proposal, _ = propose(script)
    assert proposal.problem
    assert "root:" not in proposal.source


def test_requests_with_odd_names_and_sources_behind_links_are_not_answered_with_what_they_name():
    script = "ln -s /etc/passwd .evaluate/7.source; echo check > .evaluate/7.request; echo check > .evaluate/x.request; "
    script += "sleep 0.4; cat .evaluate/7.result"
    proposal, _ = propose(script)
    notes = json.loads(proposal.transcript)["notes"]
    assert [note["answer"] for note in notes] == ["the kernel is empty"]


def test_the_evaluation_command_gives_up_when_nobody_answers(tmp_path: Path):
    from kevolve.operators.agent.prompt import render

    (tmp_path / ".evaluate").mkdir()
    (tmp_path / ".evaluate" / "over").touch()
    (tmp_path / "kernel.cpp").write_text("x")
    (tmp_path / "evaluate").write_text(render("evaluate.sh.jinja", suffix=".cpp"))
    done = subprocess.run(["/bin/sh", "evaluate"], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (2, "nobody evaluates any more\n")
