"""What a task sees, and what of it is kept: commands and callables, for real."""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from farm.config import CHILD_VARIABLES
from tests.driver import Farm
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

INLINE = 16 * 1024  # bytes of output that a result holds


def run(farm: Farm, grace: str = "20", **task: Any) -> dict[str, Any]:
    """Drop one task, let a worker run it; its result."""
    farm.drop("job", **task)
    farm.work(FARM_GRACE=grace)
    return farm.result("job")


def call(farm: Farm, body: str, **task: Any) -> dict[str, Any]:
    """Let a worker call a function with this body; the result."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    farm.write("module.py", f"def go(*args, **kwargs):\n{lines}\n")
    return run(farm, call="module:go", **task)


def python(text: str) -> list[str]:
    """A command that runs this text with Python."""
    return [sys.executable, "-c", text]


# -- output ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["-v", "--", "+x"])
def test_a_text_that_begins_with_a_dash_is_no_option_of_the_shell(
    farm: Farm, text: str
) -> None:
    tool = farm.write(f"bin/{text}", '#!/bin/sh\necho "ran $1"\n')
    tool.chmod(0o755)
    path = f"{tool.parent}:{os.environ['PATH']}"
    result = run(farm, run=f"{text} 'a b'", env={"PATH": path})

    assert result["stdout"] == "ran a b\n"


@pytest.mark.parametrize("command", [["./tool"], "./tool && true", "./tool"])
def test_a_script_with_windows_line_ends_is_told_so(
    farm: Farm, command: str | list[str]
) -> None:
    farm.write("tool", "#!/bin/sh\r\ntrue\r\n").chmod(0o755)

    assert "Windows line ends" in run(farm, run=command)["error"]["message"]


@pytest.mark.parametrize("command", [["./tool"], "./tool"])
def test_a_script_without_its_interpreter_is_told_so(
    farm: Farm, command: str | list[str]
) -> None:
    farm.write("tool", "#!/opt/none/interpreter\ntrue\n").chmod(0o755)

    assert "'/opt/none/interpreter'" in run(farm, run=command)["error"]["message"]


def test_a_command_within_a_script_that_is_not_found_is_told_as_the_shell_does(
    farm: Farm,
) -> None:
    farm.write("tool", "#!/bin/sh\nno-such-program\n").chmod(0o755)
    # A shell says otherwise where it may not look into a folder of its PATH.
    ended = run(farm, run="./tool", env={"PATH": "/usr/bin:/bin"})
    message = ended["error"]["message"]

    assert message.startswith("exit code 127: ")
    assert "no-such-program: " in message
    assert message.endswith("not found")


def test_stdout_and_stderr_are_kept_apart(farm: Farm) -> None:
    result = run(farm, run="echo out; echo err >&2")

    assert (result["stdout"], result["stderr"]) == ("out\n", "err\n")
    assert "stdout_path" not in result
    assert list((farm.state / "logs").iterdir()) == []


def test_what_a_callable_prints_is_kept(farm: Farm) -> None:
    body = "import os, sys\nprint('out')\nprint('err', file=sys.stderr)\n"
    result = call(farm, f"{body}os.system('echo child')")

    assert sorted(result["stdout"].split()) == ["child", "out"]
    assert result["stderr"] == "err\n"


def test_each_callable_has_its_own_output(farm: Farm) -> None:
    farm.write("says.py", "def go(word):\n    print(word)\n")
    farm.drop("a", call="says:go", args=["first"])
    farm.drop("b", call="says:go", args=["second"])
    farm.work()

    assert farm.result("a")["stdout"] == "first\n"
    assert farm.result("b")["stdout"] == "second\n"


def test_output_that_just_fits_is_inside_the_result(farm: Farm) -> None:
    result = run(farm, run=python(f"print('x' * {INLINE - 1})"))

    assert len(result["stdout"]) == INLINE
    assert "stdout_path" not in result


def test_longer_output_is_a_file_and_its_tail_is_in_the_result(farm: Farm) -> None:
    result = run(farm, run=python(f"print('begin' + 'x' * {INLINE} + 'end')"))
    kept = (farm.root / result["stdout_path"]).read_text()

    assert kept.startswith("begin")
    assert len(kept) == INLINE + 9
    assert result["stdout"] == kept[-INLINE:]


@pytest.mark.parametrize("kind", ["run", "call"])
def test_fifty_megabytes_of_output_do_no_harm(farm: Farm, kind: str) -> None:
    text = "for _ in range(50): print('x' * (2**20 - 1))"
    result = run(farm, run=python(text)) if kind == "run" else call(farm, text)

    assert result["status"] == "succeeded"
    assert (farm.root / result["stdout_path"]).stat().st_size == 50 * 2**20
    assert len(result["stdout"]) == INLINE


def test_bytes_that_are_no_text_are_kept_in_a_file(farm: Farm) -> None:
    result = run(farm, run=r"printf 'a\377\376\000b'")

    assert (farm.root / result["stdout_path"]).read_bytes() == b"a\xff\xfe\0b"
    assert result["stdout"] == "a\ufffd\ufffd\0b"


def test_nul_bytes_are_text(farm: Farm) -> None:
    assert run(farm, run=r"printf 'a\000b'")["stdout"] == "a\0b"


def test_what_a_task_reads_is_empty(farm: Farm) -> None:
    assert run(farm, run="cat; echo end")["stdout"] == "end\n"


# -- how commands end --------------------------------------------------------------------


def test_an_exit_code_fails_with_the_last_words(farm: Farm) -> None:
    result = run(farm, run="echo first >&2; echo 'disk is full' >&2; exit 3")

    assert (result["status"], result["exit_code"]) == ("failed", 3)
    assert result["error"]["kind"] == "exit"
    assert result["error"]["message"] == "exit code 3: disk is full"


@pytest.mark.parametrize(
    ("code", "status"), [(0, "succeeded"), (3, "succeeded"), (4, "failed")]
)
def test_exit_codes_may_be_declared_good(farm: Farm, code: int, status: str) -> None:
    result = run(farm, run=f"exit {code}", ok_exit_codes=[0, 3])

    assert (result["status"], result["exit_code"]) == (status, code)


@pytest.mark.fault(11)
def test_a_signal_is_named(farm: Farm) -> None:
    result = run(farm, run="kill -SEGV $$")

    assert (result["status"], result["signal"]) == ("failed", "SIGSEGV")
    assert result["error"]["message"] == "killed by SIGSEGV"
    assert "exit_code" not in result


def test_a_list_is_run_without_a_shell(farm: Farm) -> None:
    assert run(farm, run=["echo", "$HOME; *"])["stdout"] == "$HOME; *\n"


def test_a_program_that_is_not_there_fails_and_is_named(farm: Farm) -> None:
    result = run(farm, run=["no-such-program"])

    assert (result["status"], result["error"]["kind"]) == ("failed", "spawn")
    assert "no-such-program" in result["error"]["message"]


# -- timeouts ------------------------------------------------------------------------------


@pytest.mark.fault(9)
def test_a_timeout_ends_the_whole_group_also_who_ignores_it(farm: Farm) -> None:
    stubborn = "sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.02; done'"
    command = f"{stubborn} & while [ ! -s pid ]; do sleep 0.02; done; sleep 1000"
    attempt = timed_out(farm, "pid", command, timeout=1, FARM_GRACE="0.5")

    assert attempt["counted"] is True
    assert "timed out after 1 s" in attempt["error"]["message"]
    assert not is_running(int((farm.root / "pid").read_text()))


def timed_out(
    farm: Farm, mark: str, command: str, timeout: float, **environ: str
) -> dict[str, Any]:
    """The first attempt that came so far as to make this file before it timed out.

    Where the machine stands still too long for that, the next attempt tries it again.
    """
    run = f"[ -s {mark} ] && exit; {command}"
    farm.drop("job", run=run, timeout=timeout, retries={"max": 9, "base_delay": 0.01})
    farm.work(**environ)
    *_, attempt, over = farm.result("job")["attempts"]

    assert (attempt["why"], over["why"]) == ("timed_out", "succeeded")
    found: dict[str, Any] = attempt
    return found


def is_running(pid: int) -> bool:
    """Whether a process runs code."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def test_a_command_may_tidy_up_at_its_timeout(farm: Farm) -> None:
    tidy = "echo tidied | tee tidied; exit 0"
    command = f"trap '{tidy}' TERM; while :; do sleep 0.02; done"
    attempt = timed_out(farm, "tidied", command, timeout=0.5, FARM_GRACE="20")

    assert (farm.root / attempt["stdout_path"]).read_text() == "tidied\n"


def test_a_callable_is_interrupted_at_its_timeout(farm: Farm) -> None:
    result = call(farm, "import time\nwhile True: time.sleep(0.02)", timeout=0.3)

    assert result["status"] == "timed_out"
    assert "timed out after 0.3 s" in result["error"]["message"]


def test_a_callable_that_swallows_exceptions_times_out_too(farm: Farm) -> None:
    body = "while True:\n    try:\n        while True: pass\n    except Exception: pass"

    assert call(farm, body, timeout=0.3)["status"] == "timed_out"


def test_a_worker_goes_on_after_a_callable_timed_out(farm: Farm) -> None:
    farm.write("slow.py", "def go():\n    while True: pass\n")
    farm.drop("a", call="slow:go", timeout=0.3)
    farm.drop("b", run="true", timeout="1h")
    farm.work()

    assert farm.status_of("b") == "succeeded"
    assert farm.result("a")["worker"] == farm.result("b")["worker"]


# -- the environment -----------------------------------------------------------------------


def test_env_is_added(farm: Farm) -> None:
    result = run(farm, run='echo "$COLOUR"', env={"COLOUR": "dark red"})

    assert result["stdout"] == "dark red\n"


def test_env_of_a_callable_is_gone_afterwards(farm: Farm) -> None:
    farm.write(
        "reads.py", "import os\ndef go():\n    return os.environ.get('COLOUR')\n"
    )
    farm.drop("a", call="reads:go", env={"COLOUR": "red"})
    farm.drop("b", call="reads:go")
    farm.work()

    assert farm.result("a")["value"] == "red"
    assert farm.result("b").get("value") is None


@pytest.mark.parametrize("kind", ["run", "call"])
def test_a_task_finds_farms_own_variables(farm: Farm, kind: str) -> None:
    farm.write("has.py", HAS)
    task = {"run": "env"} if kind == "run" else {"call": "has:print_all"}
    farm.drop("a", **task)
    farm.drop("b", call="has:overwrite")
    farm.drop("c", **task)
    farm.work()
    found = [variables(farm.result(task_id)["stdout"]) for task_id in ("a", "c")]

    assert all(set(CHILD_VARIABLES) <= own.keys() for own in found)
    assert [own["FARM_TASK_ID"] for own in found] == ["a", "c"]
    assert found[0]["FARM_WORKER"] == found[1]["FARM_WORKER"]
    assert found[0]["FARM_TOKEN"] != found[1]["FARM_TOKEN"]


HAS = """
import os


def print_all():
    for name, value in os.environ.items():
        print(f"{name}={value}")


def overwrite():
    os.environ["FARM_WORKER"] = "mine"
    del os.environ["FARM_PROGRESS"]
"""


def variables(printed: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in printed.splitlines()]
    return {name: value for name, _, value in pairs}


SECRETS = ["DEMO_API_KEY", "DEMO_TOKEN", "DEMO_SECRET_WORD", "demo_password"]


@pytest.mark.parametrize("name", SECRETS)
def test_what_looks_like_a_secret_is_left_out_unless_named(
    farm: Farm, name: str
) -> None:
    farm.write(
        "reads.py",
        "import os\ndef go(name):\n    return len(os.environ.get(name, ''))\n",
    )
    farm.drop("not-named", run=f'echo "${{#{name}}}"')
    farm.drop("named", run=f'echo "${{#{name}}}"', env_from=[name])
    farm.drop("call-not-named", call="reads:go", args=[name])
    farm.drop("call-named", call="reads:go", args=[name], env_from=[name])
    farm.work(**{name: "harmless"})

    assert farm.result("not-named")["stdout"] == "0\n"
    assert farm.result("named")["stdout"] == "8\n"
    assert farm.result("call-not-named")["value"] == 0
    assert farm.result("call-named")["value"] == 8


def test_a_variable_that_is_not_set_fails_and_is_named(farm: Farm) -> None:
    result = run(farm, run="true", env_from=["DEMO_API_KEY"])

    assert result["status"] == "failed"
    assert "DEMO_API_KEY" in result["error"]["message"]


def test_a_task_knows_who_it_is(farm: Farm) -> None:
    names = ["TASK_ID", "TASK_FILE", "ATTEMPT", "TOKEN", "WORKER", "PROJECT"]
    result = run(farm, run="; ".join(f'echo "$FARM_{name}"' for name in names))
    said = dict(zip(names, result["stdout"].splitlines(), strict=True))

    assert said == {
        "TASK_ID": "job",
        "TASK_FILE": str(farm.tasks / "job.json"),
        "ATTEMPT": "1",
        "TOKEN": result["token"],
        "WORKER": result["worker"],
        "PROJECT": str(farm.root),
    }


def test_settings_of_farm_are_not_passed_on(farm: Farm) -> None:
    assert run(farm, run='echo "$FARM_HEARTBEAT"')["stdout"] == "\n"


def test_a_task_can_read_the_results_it_needed(farm: Farm) -> None:
    farm.write("sums.py", SUMS)
    for number in (1, 2):
        farm.drop(f"parts/{number}", call="sums:part", args=[number])
    farm.drop("total", call="sums:total", needs=["parts/*"])
    farm.work()

    assert farm.result("total")["value"] == {"parts/1": 1, "parts/2": 2}


SUMS = """
import json, os


def part(number):
    return number


def total():
    with open(os.environ["FARM_NEEDS"]) as needs:
        paths = json.load(needs)
    return {i: json.load(open(path))["value"] for i, path in paths.items()}
"""


def test_progress_shows_in_status(farm: Farm) -> None:
    gate = farm.gate()
    said = 'echo "0.25 unpacking" >> "$FARM_PROGRESS"'
    farm.drop(
        "job", run=f'{said}; echo "0.61 packing" >> "$FARM_PROGRESS"; {gate.command}'
    )
    farm.start_worker()
    gate.wait_reached()
    (running,) = json.loads(farm.farm("status", "--json").stdout)["running"]

    assert (running["id"], running["progress"]) == ("job", 0.61)
    assert running["message"] == "packing"


@pytest.mark.parametrize("kind", ["run", "call"])
def test_a_task_runs_in_the_project_or_in_cwd(farm: Farm, kind: str) -> None:
    (farm.root / "sub").mkdir()
    farm.write("where.py", "import os\ndef go():\n    print(os.getcwd())\n")
    task = {"run": "pwd"} if kind == "run" else {"call": "where:go"}
    farm.drop("above", **task)
    farm.drop("below", **task, cwd="sub")
    farm.drop("above-again", **task)
    farm.work()

    assert farm.result("above")["stdout"] == f"{farm.root}\n"
    assert farm.result("below")["stdout"] == f"{farm.root}/sub\n"
    assert farm.result("above-again")["stdout"] == f"{farm.root}\n"


def test_a_cwd_that_is_not_there_fails_and_is_named(farm: Farm) -> None:
    result = run(farm, run="true", cwd="nowhere")

    assert result["status"] == "failed"
    assert "nowhere" in result["error"]["message"]


# -- callables -----------------------------------------------------------------------------


def test_arguments_go_in_and_the_value_comes_out(farm: Farm) -> None:
    body = "return {'args': args, 'kwargs': kwargs}"
    result = call(farm, body, args=[1, "two"], kwargs={"three": [3.5, None, True]})

    assert result["value"] == {
        "args": [1, "two"],
        "kwargs": {"three": [3.5, None, True]},
    }


def test_an_async_callable_is_awaited(farm: Farm) -> None:
    farm.write(
        "later.py",
        "import asyncio\nasync def go():\n    await asyncio.sleep(0.01)\n    return 7\n",
    )

    assert run(farm, call="later:go")["value"] == 7


def test_a_worker_stops_tidily_after_an_async_callable(farm: Farm) -> None:
    farm.write("later.py", "async def go():\n    return 7\n")
    farm.drop("job", call="later:go")
    worker = farm.start_worker()
    farm.wait_for("succeeded", "job")
    farm.signal(worker, signal.SIGTERM)

    assert worker.wait(20) == 130


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{'a': [1, {2}]}", ['value["a"][1]', "set"]),
        ("object()", ["value is", "object"]),
        ("{1: 2}", ["value", "int"]),
        ("[float('nan')]", ["value[0]", "nan"]),
        ("b'raw'", ["value is", "bytes"]),
        ("10 ** 30", ["value is", "64 bits"]),
        ("'\\ud800'", ["value is", "Unicode"]),
    ],
)
def test_a_value_that_json_cannot_hold_fails_and_is_placed(
    farm: Farm, value: str, words: list[str]
) -> None:
    result = call(farm, f"return {value}")
    message = result["error"]["message"]

    assert (result["status"], result["error"]["kind"]) == ("failed", "value")
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("Share(0.5)", 0.5),
        ("Count(3)", 3),
        ("Pair(1, Share(2))", [1, 2.0]),
        ("{Word('a'): [Pair(Count(1), Word('b'))]}", {"a": [[1, "b"]]}),
    ],
)
def test_a_value_of_a_derived_class_is_stored_as_that_of_its_base(
    farm: Farm, value: str, stored: object
) -> None:
    derived = (
        "from typing import NamedTuple\n"
        "class Share(float): __float__ = None\n"
        "class Count(int): pass\n"
        "class Word(str): pass\n"
        "class Pair(NamedTuple):\n    a: object\n    b: object\n"
    )
    result = call(farm, f"{derived}return {value}")

    assert (result["status"], result.get("value")) == ("succeeded", stored)


def test_a_value_of_a_derived_class_that_json_cannot_hold_is_placed(farm: Farm) -> None:
    body = "class Share(float): pass\nreturn {'a': (1, Share('nan'))}"

    assert 'value["a"][1] is nan' in call(farm, body)["error"]["message"]


def test_a_traceback_shows_the_project_and_not_farm(farm: Farm) -> None:
    result = call(farm, "return 1 // args[0]", args=[0])
    error = result["error"]

    assert (error["kind"], error["type"]) == ("exception", "ZeroDivisionError")
    assert "module.py" in error["traceback"]
    assert "return 1 // args[0]" in error["traceback"]
    assert "runners" not in error["traceback"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("nothing:go", "nothing"),
        ("here:nothing", "nothing"),
        ("here:go.further", "further"),
        ("broken:go", "ZeroDivisionError"),
        ("here:number", "int"),
    ],
)
def test_what_cannot_be_imported_fails_and_is_named(
    farm: Farm, name: str, word: str
) -> None:
    farm.write("here.py", "number = 1\ndef go():\n    pass\n")
    farm.write("broken.py", "1 / 0\n")
    result = run(farm, call=name)

    assert (result["status"], result["error"]["kind"]) == ("failed", "import")
    assert word in result["error"]["message"]


@pytest.mark.parametrize("name", ["token", "json", "types", "select"])
def test_a_module_with_the_name_of_a_loaded_one_is_told_of_that(
    farm: Farm, name: str
) -> None:
    mine = farm.write(f"{name}.py", "def main():\n    return 'mine'\n")
    result = run(farm, call=f"{name}:main")
    message = result["error"]["message"]

    assert (result["status"], result["error"]["kind"]) == ("failed", "import")
    assert "another module of that name is already loaded" in message
    assert f"{mine} cannot be: rename that file" in message


def test_a_function_of_a_loaded_module_is_not_called_in_place_of_the_projects(
    farm: Farm,
) -> None:
    farm.write("time/__init__.py", "def time():\n    return 'mine'\n")
    farm.drop("others", call="os:getpid")
    result = run(farm, call="time:time")

    assert "built into Python" in result["error"]["message"]
    assert farm.status_of("others") == "succeeded"


@pytest.mark.parametrize("end", ["sys.exit(2)", "raise SystemExit('usage')"])
def test_a_module_that_ends_the_program_at_its_import_is_told_so(
    farm: Farm, end: str
) -> None:
    farm.write("script.py", f"import sys\ndef go():\n    pass\n{end}\n")
    result = run(farm, call="script:go")
    message = result["error"]["message"]

    assert (result["status"], result["error"]["kind"]) == ("failed", "import")
    assert message.startswith("cannot import script: SystemExit: ")
    assert 'under `if __name__ == "__main__":`' in message
    assert "script.py" in result["error"]["traceback"]


@pytest.mark.parametrize(
    "body",
    [
        "raise SystemExit(0)",
        "import sys; sys.exit('bye')",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
    ],
)
def test_a_callable_cannot_end_the_worker_by_an_exception(
    farm: Farm, body: str
) -> None:
    farm.drop("z-later", run="true")
    result = call(farm, body)

    assert (result["status"], result["error"]["kind"]) == ("failed", "exception")
    assert farm.status_of("z-later") == "succeeded"
    assert farm.result("z-later")["worker"] == result["worker"]


@pytest.mark.parametrize(
    "body",
    [
        "import sys; sys.stdout.close()",
        "import sys; sys.stderr = None",
        "import os; os.chdir('/')",
        "import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN)",
    ],
)
def test_what_a_callable_leaves_broken_does_not_reach_the_next(
    farm: Farm, body: str
) -> None:
    farm.write("fine.py", "import os\ndef go():\n    print(os.getcwd())\n")
    farm.drop("z-next", call="fine:go")
    result = call(farm, body)

    assert result["status"] == "succeeded"
    assert farm.result("z-next")["stdout"] == f"{farm.root}\n"
    assert farm.result("z-next")["worker"] == result["worker"]


# -- modules that change -------------------------------------------------------------------


def version(farm: Farm, number: int) -> None:
    """Write a module whose function returns this number; always the same size."""
    aside = farm.write("changing.py.new", f"def go():\n    return {number}\n")
    aside.rename(farm.root / "changing.py")


def test_a_changed_module_is_picked_up_by_the_next_task(farm: Farm) -> None:
    version(farm, 1)
    worker = farm.start_worker()
    values = []
    for number in (1, 2, 3):
        version(farm, number)
        values.append(newest(farm))

    assert values == [1, 2, 3]
    assert worker.poll() is None


def newest(farm: Farm) -> object:
    """What the function returns to a task that is dropped now."""
    name = farm.drop(f"t{len(list(farm.tasks.iterdir()))}", call="changing:go")
    return farm.wait_for("succeeded", name)["value"]


def test_two_edits_of_one_size_in_one_second_are_told_apart(farm: Farm) -> None:
    version(farm, 1)
    farm.start_worker()
    first = newest(farm)
    path = farm.root / "changing.py"
    before = path.stat()
    version(farm, 2)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    wait_until(lambda: newest(farm) == 2, on_timeout=farm.describe)
    version(farm, 3)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 2000))
    wait_until(lambda: newest(farm) == 3, on_timeout=farm.describe)

    assert first == 1
    assert list(farm.root.rglob("__pycache__")) == []


def test_an_edit_just_before_a_task_is_what_runs(farm: Farm) -> None:
    version(farm, 0)
    farm.start_worker()
    values = [newest(farm)]
    for number in range(1, 6):
        version(farm, number)
        values.append(newest(farm))

    assert values == [0, 1, 2, 3, 4, 5]


def test_an_edit_by_a_task_that_another_needs_is_what_runs(farm: Farm) -> None:
    version(farm, 1)
    edit = "sed -i s/1/2/ changing.py"
    farm.drop("a", call="changing:go")
    farm.drop("b", run=edit, needs=["a"])
    farm.drop("c", call="changing:go", needs=["b"])
    farm.start_worker()

    assert farm.wait_for("succeeded", "a", "b", "c")["value"] == 2


def test_an_edit_in_a_project_that_is_named_through_a_link_is_what_runs(
    farm: Farm,
) -> None:
    version(farm, 1)
    door = farm.root.with_name("door")
    door.symlink_to(farm.root)
    farm.start("worker", str(door))
    first = newest(farm)
    version(farm, 2)

    assert (first, newest(farm)) == (1, 2)


AFRESH = 'patch("farm.work.AFRESH_AFTER", 3).start()'


def test_a_worker_starts_afresh_before_old_variables_fill_its_memory(
    farm: Farm,
) -> None:
    farm.write("who.py", "import os\ndef go():\n    return os.getpid()\n")
    names = [farm.drop(f"t{number}", call="who:go") for number in range(7)]
    worker = farm.start_changed(AFRESH, "--until-done")
    results = [farm.wait_for("succeeded", name) for name in names]

    assert {result["value"] for result in results} == {worker.pid}
    assert sorted(Counter(result["worker"] for result in results).values()) == [3, 4]


def test_a_module_beside_the_project_is_found_below_folders_too(farm: Farm) -> None:
    farm.write("package/__init__.py", "")
    farm.write(
        "package/part.py", "class Tool:\n    @staticmethod\n    def go(): return 1\n"
    )

    assert run(farm, call="package.part:Tool.go")["value"] == 1


# -- prompts -------------------------------------------------------------------------------


def test_a_prompt_without_an_agent_says_how_to_set_one_up(farm: Farm) -> None:
    result = run(farm, prompt="Fix the failing test", agent="claude")

    assert result["status"] == "failed"
    assert "write a table [agents.NAME] into farm.toml" in result["error"]["message"]


# -- a project's own modules -----------------------------------------------------------


def test_modules_of_a_project_are_no_modules_of_farm(farm: Farm) -> None:
    for name in ("locale", "logging", "queue", "random", "selectors", "subprocess"):
        farm.write(f"{name}.py", "raise SystemExit('this is mine')\n")
    farm.drop("first", run="true")
    farm.start_worker()
    farm.wait_for("succeeded", "first")
    farm.drop("second", run="true")  # seen by an event: the worker idles by now

    farm.wait_for("succeeded", "second")


LONG = """
class Long(Exception): ...

def short():
    raise ValueError("why it is so")

def long():
    raise ValueError("first" + "x" * 3_000_000 + "last")

def chain(left=300):
    try:
        raise ValueError("y" * 50_000)
    except ValueError as error:
        if left:
            chain(left - 1)
        raise ValueError("z" * 50_000) from error

def name():
    raise type("N" * 3_000_000, (Exception,), {})("why")

def returned():
    return {"k" * 3_000_000: {1}}
"""


@pytest.mark.parametrize("function", ["long", "chain", "name", "returned"])
def test_an_errors_text_is_bounded_and_there_once(farm: Farm, function: str) -> None:
    farm.write("m.py", LONG)
    farm.drop("a", call=f"m:{function}", retries={"max": 1, "base_delay": 0})
    farm.work()

    result = farm.result("a")
    first, last = (attempt["error"] for attempt in result["attempts"])
    size = farm.result_path("a").stat().st_size
    journal = "".join(p.read_text() for p in (farm.state / "journal").iterdir())
    assert result["status"] == "failed"
    assert "letters left out" in result["error"]["message"]
    assert size < 60_000
    assert len(first["message"]) < 600
    assert "traceback" not in last
    assert len(journal) < 5_000
    assert len(farm.said[-1]) < 5_000
    for verb in (("why", "a"), ("show", "a"), ("status",), ("status", "--failed")):
        done = farm.farm(*verb)
        assert done.returncode == 0
        assert 0 < len(done.stdout) < 12_000


def test_both_ends_of_what_was_raised_are_kept(farm: Farm) -> None:
    farm.write("m.py", LONG)
    farm.drop("a", call="m:long")
    farm.drop("b", call="m:short")
    farm.work()

    error = farm.result("a")["error"]
    assert error["message"].startswith("ValueError: firstxxx")
    assert error["message"].endswith("xxxlast")
    assert error["message"].count("x") < 17_000
    assert error["traceback"].count("x") < 1_100
    assert "in long" in error["traceback"]
    short = farm.result("b")["error"]
    assert short["message"] == "ValueError: why it is so"
    assert short["traceback"].endswith("ValueError: why it is so\n")
