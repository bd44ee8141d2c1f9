from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kevolve.evaluate.client import Workers
from kevolve.models import ModelFailed
from kevolve.models.redaction import HIDDEN, is_secret, redact, redacted, secrets, without_secrets
from kevolve.targets.cpu import CPU

NAMES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "KEVOLVE_SERVER_API_KEY", "OPENAI_CUSTOM_HEADERS", "HF_TOKEN")


@pytest.mark.parametrize("name", [*NAMES, "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "my_apikey", "KEY"])
def test_a_variable_that_holds_a_secret_is_known_by_its_name(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["PATH", "TOKENIZERS_PARALLELISM", "KEYBOARD", "MONKEY", "OMP_NUM_THREADS", "SECRETARY"])
def test_other_variables_are_not(name):
    assert not is_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        "sk-ant-api03-abcdefghijklmnopqrstuvwx",
        "sk-proj-abcdefghijklmnopqrstuvwxyz",
        "hf_abcdefghijklmnopqrstuvwxyz",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AIzaSyA0123456789abcdefghijklmnopqrstuvw",
        "AKIA0123456789ABCDEF",
    ],
)
def test_what_has_a_keys_form_is_taken_out(text):
    assert redact(f"<{text}>") == f"<{HIDDEN}>"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Authorization: Bearer abc123def456ghi789", f"Authorization: Bearer {HIDDEN}"),
        ("{'x-api-key': 'abc123def456ghi789'}", f"{{'x-api-key': '{HIDDEN}'}}"),
        ("api_key=abc123def456ghi789 given", f"api_key={HIDDEN} given"),
    ],
)
def test_what_is_said_to_be_a_key_is_taken_out(text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "the bearer of this kernel",
        "task-parallel-loops-over-the-whole-row",
        "def kernel(x, key, token): return x[key] * 2  # authorization: nobody",
        "tl.load(x_ptr + offsets, mask=mask, other=0.0)",
    ],
)
def test_a_kernels_text_stays_as_it_is(text):
    assert redact(text) == text


def test_the_longest_secret_goes_first_and_short_values_stay():
    environment = {"A_KEY": "abcdefgh", "B_KEY": "abcdefghijkl", "C_KEY": "short", "HOME": "/home/somebody"}
    assert secrets(environment) == ("abcdefghijkl", "abcdefgh")
    assert redact("abcdefghijkl short /home/somebody", secrets(environment)) == f"{HIDDEN} short /home/somebody"


def test_data_is_redacted_in_depth_and_stays_data():
    assert redacted({"a": ["sk-abcdefghijklmnopqrstuvwxyz", 1, None, {"b": ("x", True)}]}) == {"a": [HIDDEN, 1, None, {"b": ["x", True]}]}


def test_an_environment_without_secrets_keeps_those_that_are_named():
    environment = {"PATH": "/bin", "A_KEY": "one", "B_KEY": "two"}
    assert without_secrets(environment, keep=["B_KEY"]) == {"PATH": "/bin", "B_KEY": "two"}


def test_no_failure_of_a_model_carries_a_key():
    assert str(ModelFailed("server", "sent sk-ant-api03-abcdefghijklmnopqrstuvwx")) == f"sent {HIDDEN}"


def test_no_key_reaches_a_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in NAMES:
        monkeypatch.setenv(name, "sesame-open")
    with Workers(sys_path=sys.path, scratch=tmp_path) as workers, workers.child(target=CPU(), language="cpp") as child:
        seen = Path(f"/proc/{child.pid}/environ").read_bytes()
    assert b"PATH=" in seen
    assert b"sesame" not in seen
    assert not [name for name in NAMES if name.encode() in seen]
