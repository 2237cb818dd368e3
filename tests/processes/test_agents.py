"""Agents' command lines, acted by scripts of ours: what a farm makes of each ending."""

import hashlib
import json
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from farm.runners import agent
from tests.driver import Farm, whys
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

QUICK = {"max": 0, "base_delay": 0.01}  # the next attempt comes at once

#: the variables of which a script tells
TOLD = "KEY|TOKEN|MAX_RETRIES|BASE_URL$|MODEL$"

PRELUDE = """\
#!{python}
import hashlib, json, os, re, signal, sys, time

def say(**event):
    print(json.dumps(event), flush=True)

prompt = sys.stdin.read()
words = sys.argv[1:]
number = len(open(os.environ["FARM_PROJECT"] + "/starts").readlines()) if os.path.exists(
    os.environ["FARM_PROJECT"] + "/starts") else 0
names = [n for n in os.environ if re.search({told!r}, n)]
values = {{n: hashlib.sha256(os.environ[n].encode()).hexdigest() for n in names}}
with open(os.environ["FARM_PROJECT"] + "/starts", "a") as file:
    start = dict(words=words, prompt=prompt, values=values, program=sys.argv[0])
    print(json.dumps(start), file=file)
session = next((words[i + 1] for i, word in enumerate(words)
                if word in ("--session-id", "--resume")), "none")
init = dict(type="system", subtype="init", session_id=session, model="opus")
usage = dict(input_tokens=3, output_tokens=4)
result = dict(type="result", subtype="success", is_error=False, result="Done.",
              session_id=session, num_turns=2, total_cost_usd=0.5, usage=usage)
thread = dict(type="thread.started", thread_id="thread-1")
message = dict(type="item.completed", item=dict(type="agent_message", text="Done."))
completed = dict(type="turn.completed", usage=usage)

def fails(text, **more):
    say(**{{**result, "is_error": True, "result": text, **more}})
    sys.exit(1)

"""


class Agents:
    """A farm whose `claude` and `codex` are scripts of ours."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.bin = farm.root / "bin"
        self.bin.mkdir()
        mine = farm.environ.items()  # but nobody's own, of which the scripts would tell
        farm.environ = {n: v for n, v in mine if not re.search(TOLD, n)}
        farm.environ["PATH"] = f"{self.bin}:{farm.environ['PATH']}"

    def act(self, name: str, body: str) -> None:
        """From now on `name` does this; its events are as in `PRELUDE`."""
        path = self.bin / name
        path.write_text(PRELUDE.format(python=sys.executable, told=TOLD) + body)
        path.chmod(0o755)

    def ask(self, preset: str = "claude", **task: Any) -> str:
        """Drop a prompt for it; the id."""
        task = {"agent": {"preset": preset}, "retries": QUICK} | task
        if "prompt_file" not in task:
            task = {"prompt": "Mend it."} | task
        return self.farm.drop("job", **task)

    def answer(self, preset: str = "claude", **environ: str) -> dict[str, Any]:
        """Ask it, and let a worker see to the end; the result."""
        self.ask(preset)
        self.farm.work(**environ)
        return self.farm.result("job")

    def starts(self) -> list[dict[str, Any]]:
        """What each run of a script found: its words, prompt, variables (hashed)."""
        path = self.farm.root / "starts"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def agents(farm: Farm) -> Agents:
    return Agents(farm)


def new_key() -> str:
    """A key that nobody ever had."""
    return secrets.token_hex(20)


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def tells(farm: Farm, secret: str) -> list[str]:
    """The files of a project in which a secret stands."""
    files = [path for path in farm.root.rglob("*") if path.is_file()]
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


def session_of(start: dict[str, Any], option: str) -> str:
    """What follows an option on a command line."""
    words: list[str] = start["words"]
    return words[words.index(option) + 1]


def indented(text: str) -> str:
    """Statements for inside of an `if`."""
    return text.replace("\n", "\n    ")


# -- how turns end ----------------------------------------------------------------------


def test_claude_answers_with_text_usage_and_session(agents: Agents) -> None:
    agents.act("claude", "say(**init)\nsay(**result)\n")
    result = agents.answer()
    start = agents.starts()[0]

    assert (result["status"], result["text"]) == ("succeeded", "Done.")
    assert result["usage"] == {
        "input_tokens": 3,
        "output_tokens": 4,
        "turns": 2,
        "cost_usd": 0.5,
    }
    assert result["asked"]["model"] == "opus"
    assert result["asked"]["session_id"] == session_of(start, "--session-id")
    assert start["prompt"] == "Mend it."
    assert not any("Mend" in word for word in start["words"])


def test_codex_answers_with_text_usage_and_thread(agents: Agents) -> None:
    agents.act("codex", "say(**thread)\nsay(**message)\nsay(**completed)\n")
    result = agents.answer("codex")

    assert (result["status"], result["text"]) == ("succeeded", "Done.")
    assert result["asked"]["session_id"] == "thread-1"
    assert agents.starts()[0]["words"] == ["exec", "--json", "-"]
    assert agents.starts()[0]["prompt"] == "Mend it."


def test_a_plain_command_answers_with_its_stdout(agents: Agents) -> None:
    agents.ask(agent={"command": ["cat"]}, prompt="Say this.\n")
    agents.farm.work()
    result = agents.farm.result("job")

    assert (result["status"], result["text"]) == ("succeeded", "Say this.\n")


def test_a_plain_command_fails_by_its_exit_code(agents: Agents) -> None:
    command = ["sh", "-c", "echo Credit balance is too low >&2; exit 3"]
    agents.ask(agent={"command": command})
    agents.farm.work()
    result = agents.farm.result("job")

    assert result["status"] == "failed"
    assert result["error"]["message"] == "exit code 3: Credit balance is too low"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("say(**{**result, 'is_error': True, 'result': 'It broke.'})", "It broke."),
        ("say(**init)", "it ended without a result"),
        ("print('{\"type\": \"resu', end='')", "it ended without a result"),
        ("print('no', file=sys.stderr)\nsys.exit(2)", "exit code 2: no"),
        ("fails('', subtype='error_max_turns')", "its cap: error_max_turns"),
        ("say(**init)\nos.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ],
    ids=["error", "no-result", "cut", "exit", "turns", "killed"],
)
def test_a_failure_says_why_and_counts(agents: Agents, body: str, message: str) -> None:
    agents.act("claude", body)
    result = agents.answer()

    assert result["status"] == "failed"
    assert message in result["error"]["message"]
    assert result["attempts"][0]["counted"]


@pytest.mark.parametrize(
    "body",
    [
        "say(**{**result, 'result': 'Claude AI usage limit reached|1795219815'})",
        "say(type='assistant', message='x' * 10_000_000)\nsay(**result)",
        "print('?' * 70_000_000)\nprint('garbage')\nsay(type='new')\nsay(**result)",
    ],
    ids=["prose", "10-MB-line", "garbage"],
)
def test_what_is_printed_before_a_good_result_does_no_harm(
    agents: Agents, body: str
) -> None:
    agents.act("claude", body)

    assert agents.answer()["status"] == "succeeded"


def test_codex_fails_with_its_turn_at_exit_0(agents: Agents) -> None:
    agents.act("codex", "say(type='turn.failed', error=dict(message='It broke.'))\n")
    result = agents.answer("codex")

    assert (result["status"], result["exit_code"]) == ("failed", 0)
    assert result["error"]["message"] == "It broke."


def test_codex_may_reconnect(agents: Agents) -> None:
    error = "say(type='error', message='Reconnecting... 1/5')\n"
    agents.act("codex", f"{error}say(**message)\nsay(**completed)\n")

    assert agents.answer("codex")["status"] == "succeeded"


def test_a_cancelled_turn_is_interrupted_and_keeps_what_it_said(agents: Agents) -> None:
    gate = agents.farm.gate()
    agents.act(
        "claude",
        "def end(*_):\n    say(**result)\n    sys.exit(0)\n\n"
        f"signal.signal(signal.SIGINT, end)\n{gate.python}",
    )
    agents.ask()
    agents.farm.start_worker()
    gate.wait_reached()
    agents.farm.farm("cancel", "job")
    result = agents.farm.wait_for("cancelled", "job")

    assert (result["text"], result["exit_code"]) == ("Done.", 0)
    assert result["usage"]["turns"] == 2


def test_what_earlier_attempts_took_is_told_and_added(agents: Agents) -> None:
    agents.act("claude", "say(**result) if number == 2 else fails('no')")
    agents.ask(retries=QUICK | {"max": 2})
    agents.farm.work()
    result = agents.farm.result("job")

    assert [a["usage"]["cost_usd"] for a in result["attempts"]] == [0.5] * 3
    assert result["usage"] == {
        "input_tokens": 9,
        "output_tokens": 12,
        "turns": 6,
        "cost_usd": 1.5,
    }


def test_a_program_that_is_not_there_fails_and_is_named(agents: Agents) -> None:
    agents.ask(agent={"preset": "claude", "command": ["no-such-agent"]})
    agents.farm.work()

    message = agents.farm.result("job")["error"]["message"]
    assert "cannot start no-such-agent" in message


def test_no_part_of_a_line_that_is_too_long_is_taken_for_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "LONGEST_LINE", 10)
    log = tmp_path / "log"
    log.write_text("short\n" + "x" * 15 + "\n123456789\n" + "y" * 25 + "\nend")

    assert [*agent._lines(str(log))] == [b"short", b"123456789", b"end"]


# -- prompts in files -------------------------------------------------------------------


def test_a_prompt_may_lie_in_a_file_of_the_project(agents: Agents) -> None:
    agents.farm.write("ask/mend.md", "Mend it, please.\n")
    agents.ask(prompt_file="ask/mend.md", agent={"command": ["cat"]})
    agents.farm.work()

    assert agents.farm.result("job")["text"] == "Mend it, please.\n"


def make_no_prompt(path: Path, what: str) -> None:
    """Something that cannot be a prompt."""
    if what == "folder":
        path.mkdir()
    elif what == "bytes":
        path.write_bytes(b"\xff")
    elif what == "empty":
        path.write_text(" \n")
    elif what == "long":
        path.write_text("x" * (10 * 2**20 + 1))
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("nothing", "cannot be read: No such file or directory"),
        ("folder", "cannot be read"),
        ("fifo", "it is not a regular file"),
        ("bytes", "is not UTF-8"),
        ("empty", "is empty"),
        ("long", "has more than 10 MiB"),
        ("link", "leads out of the project"),
    ],
)
def test_a_file_that_is_no_prompt_fails_with_a_sentence(
    agents: Agents, what: str, fault: str
) -> None:
    make_no_prompt(agents.farm.root / "ask.md", what)
    agents.ask(prompt_file="ask.md", agent={"command": ["cat"]})
    agents.farm.work()
    result = agents.farm.result("job")

    assert result["status"] == "failed"
    assert fault in result["error"]["message"]


# -- keys ---------------------------------------------------------------------------------


def test_an_agent_gets_one_key_and_no_other_way_to_log_in(agents: Agents) -> None:
    agents.act("claude", "say(**result)\n")
    key = new_key()
    result = agents.answer(
        ANTHROPIC_API_KEY_2=key,
        ANTHROPIC_MODEL_2="small",
        ANTHROPIC_BASE_URL_2="http://127.0.0.1:9",
        OPENAI_API_KEY=new_key(),
        ANTHROPIC_AUTH_TOKEN=new_key(),
        CLAUDE_CODE_OAUTH_TOKEN=new_key(),
    )
    start = agents.starts()[0]

    assert start["values"] == {
        "ANTHROPIC_API_KEY": hashed(key),
        "ANTHROPIC_MODEL": hashed("small"),
        "ANTHROPIC_BASE_URL": hashed("http://127.0.0.1:9"),
        "FARM_TOKEN": start["values"]["FARM_TOKEN"],
    }
    assert session_of(start, "--model") == "small"
    assert result["asked"]["credential"] == "anthropic-2"
    assert tells(agents.farm, key) == []


def test_without_a_key_of_ours_a_program_logs_in_by_itself(agents: Agents) -> None:
    agents.act("claude", "say(**result)\n")
    token = new_key()
    agents.answer(CLAUDE_CODE_OAUTH_TOKEN=token, GITHUB_TOKEN=new_key())
    values = agents.starts()[0]["values"]

    assert set(values) == {"CLAUDE_CODE_OAUTH_TOKEN", "FARM_TOKEN"}
    assert values["CLAUDE_CODE_OAUTH_TOKEN"] == hashed(token)


def test_a_task_cannot_give_an_agent_with_a_key_another_login(agents: Agents) -> None:
    agents.act("claude", "say(**result)\n")
    agents.ask(env_from=["ANTHROPIC_AUTH_TOKEN"])
    agents.farm.work(ANTHROPIC_API_KEY=new_key(), ANTHROPIC_AUTH_TOKEN=new_key())

    assert set(agents.starts()[0]["values"]) == {"ANTHROPIC_API_KEY", "FARM_TOKEN"}


def test_codex_gets_its_key_under_its_own_name_too(agents: Agents) -> None:
    agents.act("codex", "say(**message)\nsay(**completed)\n")
    key = new_key()
    agents.answer("codex", OPENAI_API_KEY=key, CODEX_API_KEY=new_key())
    values = agents.starts()[0]["values"]

    assert values["OPENAI_API_KEY"] == values["CODEX_API_KEY"] == hashed(key)


def test_a_key_that_an_agent_prints_is_written_nowhere(agents: Agents) -> None:
    key = new_key()
    shown = "key = os.environ['ANTHROPIC_API_KEY']\nprint(key)\nprint(key, file=sys.stderr)\n"
    agents.act("claude", f"{shown}say(**{{**result, 'result': 'It is ' + key}})\n")
    result = agents.answer(ANTHROPIC_API_KEY=key)

    assert result["text"] == "It is [secret]"
    assert tells(agents.farm, key) == []


LIMIT = "rate_limit_info=dict(status='rejected', resetsAt=time.time() + 3600)"
RETRY = "type='system', subtype='api_retry', error='rate_limit', error_status=429"
REFUSALS = {
    "credit": "fails('Credit balance is too low')",
    "429": "fails('Too many.', api_error_status=429)",
    "401": "fails('No such key.', api_error_status=401)",
    "event": f"say(type='rate_limit_event', {LIMIT})\nfails('Limit.')",
    "retry": f"say({RETRY})\nsys.exit(143)",
    "line": "print('Credit balance is too low')\nsys.exit(1)",
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_key_rests_and_the_next_attempt_takes_another(
    agents: Agents, refusal: str
) -> None:
    agents.act(
        "claude",
        f"if number == 0:\n    {indented(refusal)}\nsay(**result)\n",
    )
    result = agents.answer(ANTHROPIC_API_KEY_1=new_key(), ANTHROPIC_API_KEY_2=new_key())
    first, second = result["attempts"]
    keys = [start["values"]["ANTHROPIC_API_KEY"] for start in agents.starts()]

    assert (result["status"], whys(result)) == ("succeeded", ["throttled", "succeeded"])
    assert not first["counted"]
    assert first["asked"]["credential"] != second["asked"]["credential"]
    assert keys[0] != keys[1]


def test_codex_that_hits_its_limit_goes_on_with_another_key(agents: Agents) -> None:
    words = "You\\'ve hit your usage limit. Try again at 3:45 PM."
    failed = f"say(type='turn.failed', error=dict(message='{words}'))"
    agents.act(
        "codex",
        f"if number == 0:\n    {failed}\nelse:\n    say(**message)\n    say(**completed)\n",
    )
    result = agents.answer(
        "codex", OPENAI_API_KEY_1=new_key(), OPENAI_API_KEY_2=new_key()
    )

    assert whys(result) == ["throttled", "succeeded"]
    assert result["attempts"][0]["error"]["kind"] == "quota_exhausted"


def test_while_another_key_is_free_a_refused_program_is_to_give_up_soon(
    agents: Agents,
) -> None:
    agents.act("claude", "say(**result)\n")
    agents.answer(ANTHROPIC_API_KEY_1=new_key(), ANTHROPIC_API_KEY_2=new_key())

    values = agents.starts()[0]["values"]
    assert values["CLAUDE_CODE_MAX_RETRIES"] == hashed("2")


def test_a_bad_request_fails_at_once(agents: Agents) -> None:
    agents.act("claude", "fails('The prompt is too long.', api_error_status=400)")
    result = agents.answer(ANTHROPIC_API_KEY=new_key())

    assert (result["status"], whys(result)) == ("failed", ["failed"])
    assert "too long" in result["error"]["message"]


def test_a_login_that_is_refused_fails_the_task(agents: Agents) -> None:
    agents.act("claude", "fails('Invalid API key · Please run /login')")
    result = agents.answer()

    assert (result["status"], result["error"]["kind"]) == ("failed", "auth")


# -- sessions -------------------------------------------------------------------------


def test_after_its_worker_was_killed_a_session_is_resumed(agents: Agents) -> None:
    gate, key = agents.farm.gate(), new_key()
    agents.act(
        "claude",
        f"say(**init)\nif number == 0:\n    {indented(gate.python)}\nsay(**result)\n",
    )
    agents.ask()
    worker = agents.farm.start_worker(ANTHROPIC_API_KEY=key)
    [program] = gate.wait_reached()
    log = agents.farm.state / "logs" / "job.1.out"
    wait_until(lambda: log.read_text().endswith("\n"))  # its worker has carried it
    words = Path(f"/proc/{program}/cmdline").read_bytes()
    agents.farm.kill(worker)
    agents.farm.start_worker(ANTHROPIC_API_KEY=key)
    result = agents.farm.wait_for("succeeded", "job")
    first, second = agents.starts()

    assert whys(result) == ["lost", "succeeded"]
    assert session_of(first, "--session-id") == session_of(second, "--resume")
    assert "--session-id" not in second["words"]
    assert "Your previous attempt at this task was ended early" in second["prompt"]
    assert (key.encode() in words, b"Mend" in words) == (False, False)


def test_a_refused_codex_resumes_its_thread_with_another_key(agents: Agents) -> None:
    failed = "say(type='turn.failed', error=dict(message='Quota exceeded.'))"
    agents.act(
        "codex",
        f"say(**thread)\nif number == 0:\n    {failed}\n    sys.exit(1)\n"
        "say(**message)\nsay(**completed)\n",
    )
    agents.answer("codex", OPENAI_API_KEY_1=new_key(), OPENAI_API_KEY_2=new_key())
    second = agents.starts()[1]

    assert second["words"] == ["exec", "--json", "resume", "thread-1", "-"]
    assert "Quota exceeded." in second["prompt"]


def test_a_session_that_never_began_is_not_resumed(agents: Agents) -> None:
    agents.act(
        "claude", "if number == 0:\n    sys.exit(1)\nsay(**init)\nsay(**result)\n"
    )
    agents.ask(retries={"max": 1, "base_delay": 0.01})
    agents.farm.work()
    first, second = agents.starts()

    assert second["prompt"] == "Mend it."
    assert session_of(first, "--session-id") != session_of(second, "--session-id")


def test_a_session_that_is_not_there_any_more_is_begun_afresh(agents: Agents) -> None:
    agents.act(
        "claude",
        "if '--resume' in words:\n"
        "    sys.exit('No conversation found with session ID: ' + session)\n"
        "say(**init)\nif number == 0:\n    sys.exit(1)\nsay(**result)\n",
    )
    agents.ask(retries={"max": 1, "base_delay": 0.01})
    agents.farm.work()
    result = agents.farm.result("job")
    _, resumed, afresh = agents.starts()

    assert whys(result) == ["failed", "succeeded"]
    assert "--resume" in resumed["words"]
    assert (afresh["prompt"], "--resume" in afresh["words"]) == ("Mend it.", False)
    assert result["asked"]["session_id"] == session_of(afresh, "--session-id")


def test_the_ledger_names_key_and_session_before_the_program_starts(
    agents: Agents,
) -> None:
    gate = agents.farm.gate()
    agents.act("claude", f"{gate.python}say(**result)\n")
    agents.ask()
    agents.farm.start_worker(ANTHROPIC_API_KEY_3=new_key())
    gate.wait_reached()
    ledger = (agents.farm.state / "locks" / "task-job.lock").read_text().splitlines()
    using = [json.loads(line) for line in ledger if '"using"' in line]
    gate.open()
    agents.farm.wait_for("succeeded", "job")

    assert [line["credential"] for line in using] == ["anthropic-3"]
    assert using[0]["session_id"] == session_of(agents.starts()[0], "--session-id")


# -- keys of commands -----------------------------------------------------------------


def test_a_command_with_credentials_gets_one_key_and_nothing_else(farm: Farm) -> None:
    names = "env | sed -n 's/=.*//p' | grep -E 'ANTHROPIC|OPENAI' | sort"
    farm.drop(
        "job",
        run=f"{names}; test ${{#ANTHROPIC_API_KEY}} = 40",
        credentials="anthropic",
    )
    farm.work(
        ANTHROPIC_API_KEY_1=new_key(),
        ANTHROPIC_MODEL_1="small",
        OPENAI_API_KEY_1=new_key(),
    )
    result = farm.result("job")

    assert result["status"] == "succeeded"
    assert result["stdout"].split() == ["ANTHROPIC_API_KEY", "ANTHROPIC_MODEL"]


def test_a_key_that_a_command_prints_is_written_nowhere(farm: Farm) -> None:
    key = new_key()
    farm.drop("job", run="echo $ANTHROPIC_API_KEY", credentials="anthropic")
    farm.work(ANTHROPIC_API_KEY=key)

    assert farm.result("job")["stdout"] == "[secret]\n"
    assert tells(farm, key) == []


def test_a_key_from_a_file_that_a_command_prints_is_written_nowhere(farm: Farm) -> None:
    key = new_key()
    path = farm.root.parent / "key"
    path.touch(0o600)
    path.write_text(key)
    farm.drop("job", run="echo $ANTHROPIC_API_KEY", credentials="anthropic")
    farm.work(ANTHROPIC_API_KEY_FILE=str(path))

    assert farm.result("job")["stdout"] == "[secret]\n"
    assert tells(farm, key) == []


def test_a_command_waits_for_a_key_that_is_not_there(farm: Farm) -> None:
    farm.drop("job", run="true", credentials="anthropic")

    assert farm.work() == 1  # nothing that time alone brings is left
    assert farm.status_of("job") is None
    assert "it needs a key: set ANTHROPIC_API_KEY" in farm.farm("why", "job").stdout


# -- those that do not end, and those that go silent ------------------------------------

LINGERS = {
    "claude": "say(**init)\nsay(**result)\ntime.sleep(600)\n",
    "codex": "say(**thread)\nsay(**message)\nsay(**completed)\ntime.sleep(600)\n",
}
DEAF = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


@pytest.mark.parametrize("preset", LINGERS)
@pytest.mark.parametrize("timeout", [None, 1.0], ids=["", "deadline"])
def test_an_answer_counts_whose_program_does_not_end(
    agents: Agents, preset: str, timeout: float | None
) -> None:
    agents.act(preset, DEAF + LINGERS[preset])
    agents.ask(preset, timeout=timeout)
    agents.farm.work(FARM_GRACE="0.4" if timeout is None else "2")
    result = agents.farm.result("job")

    assert (result["status"], result["text"]) == ("succeeded", "Done.")
    assert whys(result) == ["succeeded"]
    assert len(agents.starts()) == 1


def test_a_failed_turn_fails_also_if_its_program_does_not_end(agents: Agents) -> None:
    agents.act(
        "codex",
        'say(**thread)\nsay(type="turn.failed", error=dict(message="it broke"))\n'
        "time.sleep(600)\n",
    )
    result = agents.answer("codex", FARM_GRACE="0.3")

    assert result["status"] == "failed"
    assert "it broke" in result["error"]["message"]


def test_who_says_more_after_its_result_is_not_ended(agents: Agents) -> None:
    more = "time.sleep(0.1)\nsay(type='assistant', message=dict(content=[]))\n" * 20
    last = "say(**{**result, 'result': 'Really done.'})\n"
    agents.act("claude", f"say(**init)\nsay(**result)\n{more}{last}")
    result = agents.answer(FARM_GRACE="0.8")

    assert (result["status"], result["text"]) == ("succeeded", "Really done.")


RETRIES = {
    "codex": "say(type='error', message=f'Reconnecting... {n}/5')",
    "claude": (
        "say(type='system', subtype='api_retry', session_id=session, attempt=n,"
        " error_status=529, error='overloaded')"
    ),
}
SAID = {"codex": "Reconnecting... ", "claude": "it tries again after 529 overloaded"}


@pytest.mark.parametrize("preset", RETRIES)
def test_who_only_tries_again_for_ever_is_ended(agents: Agents, preset: str) -> None:
    agents.act(
        preset,
        f"say(**thread)\nsay(**init)\nn = 0\n"
        f"while True:\n    n += 1\n    {RETRIES[preset]}\n    time.sleep(0.05)\n",
    )
    agents.ask(preset, idle_timeout=2)
    agents.farm.work()
    result = agents.farm.result("job")

    assert result["status"] == "timed_out"
    assert result["error"]["kind"] == "idle"
    assert (
        f"no sign of work for 2 s, last: {SAID[preset]}" in result["error"]["message"]
    )


@pytest.mark.parametrize("preset", RETRIES)
def test_people_are_told_for_how_long_it_shows_no_sign_of_work(
    agents: Agents, preset: str
) -> None:
    farm = agents.farm
    agents.act(
        preset,
        f"say(**thread)\nsay(**init)\nn = 2\n"
        f"while True:\n    {RETRIES[preset]}\n    time.sleep(0.05)\n",
    )
    agents.ask(preset, idle_timeout="1h")
    farm.start_changed('patch("farm.guard.QUIET", 0.5).start()')
    wait_until(lambda: "no output for" in farm.farm("why", "job").stdout)
    why, status = farm.farm("why", "job").stdout, farm.farm("status").stdout
    [run] = json.loads(farm.farm("status", "--json").stdout)["running"]

    assert f", last: {SAID[preset]}" in why
    assert f", last: {SAID[preset]}" in status
    assert run["quiet_s"] > 0
    assert SAID[preset] in run["last"]


BEGINS = {
    "claude": (
        "say(type='assistant', message=dict(content=[dict(type='tool_use', id='t1',"
        " name='Bash', input=dict(command='pytest -q'))]))\n"
    ),
    "codex": (
        "say(type='item.started', item=dict(id='t1', type='command_execution',"
        " command='pytest -q'))\n"
    ),
}
ENDS = {
    "claude": (
        "say(type='user', message=dict(content=[dict(type='tool_result',"
        " tool_use_id='t1', content='ok')]))\nsay(**result)\n"
    ),
    "codex": (
        "say(type='item.completed', item=dict(id='t1', type='command_execution'))\n"
        "say(**message)\nsay(**completed)\n"
    ),
}
#: uses two seconds of processor time, however long that takes
COMPUTES = "import time\nwhile time.process_time() < 2: pass\n"
OWN = "import subprocess\n"


@pytest.mark.parametrize("preset", BEGINS)
def test_a_tool_that_computes_in_silence_is_at_work(
    agents: Agents, preset: str
) -> None:
    tool = f"subprocess.run([sys.executable, '-c', {COMPUTES!r}])\n"
    agents.act(preset, f"{OWN}say(**thread)\n{BEGINS[preset]}{tool}{ENDS[preset]}")
    agents.ask(preset, idle_timeout=1)
    agents.farm.work()

    assert agents.farm.result("job")["status"] == "succeeded"


@pytest.mark.parametrize("preset", BEGINS)
def test_a_tool_that_does_nothing_is_not_at_work_nor_is_a_program_that_waits_busily(
    agents: Agents, preset: str
) -> None:
    tool = "subprocess.Popen(['sleep', '600'])\nwhile True: pass\n"
    agents.act(preset, f"{OWN}say(**thread)\n{BEGINS[preset]}{tool}")
    agents.ask(preset, idle_timeout=1)
    agents.farm.work()
    result = agents.farm.result("job")

    assert result["status"] == "timed_out"
    assert "last: " in result["error"]["message"]
    assert "pytest -q" in result["error"]["message"]


def test_a_program_that_computes_without_an_open_call_is_not_at_work(
    agents: Agents,
) -> None:
    agents.act("claude", "say(**init)\nwhile True: pass\n")
    agents.ask(idle_timeout=1)
    agents.farm.work()

    assert agents.farm.result("job")["status"] == "timed_out"


@pytest.mark.parametrize("place", ["task", "agent", "settings", "variable"])
def test_how_long_an_agent_may_be_silent_is_said_in_four_places(
    agents: Agents, place: str
) -> None:
    farm, words = agents.farm, "say(**init)\ntime.sleep(600)\n"
    agents.act("claude", words)
    told: dict[str, Any] = {"preset": "claude"}
    if place == "agent":
        told["idle_timeout"] = "0.5s"
    if place == "settings":
        farm.write("farm.toml", 'idle_timeout = "0.5s"\n')
    task = {"idle_timeout": "0.5s"} if place == "task" else {}
    environ = {"FARM_IDLE_TIMEOUT": "0.5s"} if place == "variable" else {}
    agents.ask(agent=told, **task)
    farm.work(**environ)

    assert farm.status_of("job") == "timed_out"


def test_the_tasks_own_word_goes_first_and_0_means_for_ever(agents: Agents) -> None:
    agents.act("claude", "say(**init)\ntime.sleep(2)\nsay(**result)\n")
    agents.ask(agent={"preset": "claude", "idle_timeout": 0.3}, idle_timeout=0)
    agents.farm.work(FARM_IDLE_TIMEOUT="0.2")

    assert agents.farm.status_of("job") == "succeeded"
