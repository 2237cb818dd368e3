"""What a task is given in secret is in no file, no word and no argument of a farm."""

import base64
import json
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from farm.job import Secrets
from tests.driver import Farm, said
from tests.waiting import wait_until

pytestmark = pytest.mark.processes

#: prints its secret in each way, split, on both streams, and a lot around it
TELLS = """
import base64, os, re, sys, urllib.parse
key = os.environ["DEMO_API_KEY"]
forms = [
    key,
    base64.b64encode(key.encode()).decode(),
    base64.b64encode(b"x" + key.encode() + b"yz").decode(),
    base64.urlsafe_b64encode(b"xy" + key.encode()).decode(),
    base64.encodebytes(key.encode()).decode(),
    urllib.parse.quote(key, safe=""),
    re.sub("%..", lambda f: f[0].lower(), urllib.parse.quote(key, safe="")),
]
for fd in (1, 2):
    for form in forms:
        half = len(form) // 2
        os.write(fd, b"around " * 50_000)
        os.write(fd, form[:half].encode())
        os.write(fd, form[half:].encode() + b"\\n")
    for letter in key:
        os.write(fd, letter.encode())
    os.write(fd, b"\\nthe end\\n")
sys.stderr.write("it was not " + key)
sys.exit(3)
"""

CALLS = """
import base64, os, subprocess, sys

def key():
    return os.environ["DEMO_API_KEY"]

def returns():
    return {"key": key(), key(): [base64.b64encode(key().encode()).decode(), 7]}

def raises():
    raise ValueError(f"{key()} is wrong")

def prints():
    print("it is", key(), flush=True)
    subprocess.run(["printenv", "DEMO_API_KEY"])
    os.write(2, key().encode())

def dies():
    print(key(), flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def key() -> str:
    """As no other, and with what URLs and JSON write otherwise."""
    return f'k/{secrets.token_urlsafe(60)}"+%{secrets.token_hex(8)}'


def forms(key: str) -> list[bytes]:
    """All that must not be found; of base64 what is the key's alone."""
    plain = key.encode()
    whole = [base64.b64encode(b"x" * before + plain) for before in range(3)]
    middles = [text[4:-4] for text in whole]
    urls = [quote(key, safe=""), quote(key), json.dumps(key)[1:-1], key[8:], key[:-8]]
    return [plain, *middles, *(text.encode() for text in urls)]


def holding(farm: Farm, *keys: str) -> list[str]:
    """Where something of a key is: files, their names, processes' arguments."""
    there = list(farm.root.rglob("*"))
    places = {"names": "\n".join(map(str, there)).encode()}
    places["said"] = "".join(farm.said).encode()
    for path in [*there, *Path("/proc").glob("[0-9]*/cmdline")]:
        try:
            if path.is_file():
                places[str(path)] = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # a worker took it away, or it ended, while we looked
    found = [form for key in keys for form in forms(key)]
    return [place for place, text in places.items() if any(f in text for f in found)]


def shown(value: object, key: str) -> str:
    """For an assertion, which must not print the key either."""
    return json.dumps(value).replace(json.dumps(key)[1:-1], "<the key>")


def test_a_command_that_tells_its_secret_in_every_way(farm: Farm, key: str) -> None:
    farm.write("tells.py", TELLS)
    gate = farm.gate()
    command = f"{sys.executable} tells.py; code=$?; {gate.command}; exit $code"
    farm.drop("tells", run=command, env_from=["DEMO_API_KEY"])
    farm.start_worker("--until-done", DEMO_API_KEY=key)
    gate.wait_reached()
    while_running = holding(farm, key)
    gate.open()
    result = farm.wait_for("failed", "tells")
    outputs = [farm.root / result[f"{name}_path"] for name in ("stdout", "stderr")]

    assert while_running == []
    assert holding(farm, key) == []
    words = shown(result["error"]["message"], key)
    assert words == '"exit code 3: it was not [secret]"'
    for path in outputs:
        text = path.read_bytes()
        assert text.count(b"[secret]") == 8 + (path == outputs[1])
        assert text.count(b"around ") == 350_000
        assert b"\nthe end\n" in text


@pytest.mark.parametrize("name", ["returns", "raises", "prints"])
def test_a_callable_that_tells_its_secret(farm: Farm, key: str, name: str) -> None:
    farm.write("calls.py", CALLS)
    farm.drop(name, call=f"calls:{name}", env_from=["DEMO_API_KEY"])
    farm.drop("then", call="os:getcwd", needs=["never"])
    farm.work(DEMO_API_KEY=key)
    result = farm.result(name)

    assert holding(farm, key) == []
    told = {
        "returns": result.get("value"),
        "raises": result.get("error", {}).get("message"),
        "prints": (result["stdout"], result["stderr"]),
    }
    expected = {
        "returns": {"key": "[secret]", "[secret]": ["[secret]", 7]},
        "raises": "ValueError: [secret] is wrong",
        "prints": ("it is [secret]\n[secret]\n", "[secret]"),
    }
    assert shown(told[name], key) == shown(expected[name], key)


def test_after_a_secret_the_next_callable_prints_as_always(
    farm: Farm, key: str
) -> None:
    farm.write("calls.py", f"{CALLS}\ndef plain():\n    print('hello')\n")
    farm.drop("a", call="calls:prints", env_from=["DEMO_API_KEY"])
    farm.drop("b", call="calls:plain")
    farm.drop("c", call="calls:prints", env_from=["DEMO_API_KEY"])
    farm.work(DEMO_API_KEY=key)

    printed = [shown(farm.result(name)["stdout"], key) for name in "abc"]
    assert printed[1] == '"hello\\n"'
    assert printed[0] == printed[2] == '"it is [secret]\\n[secret]\\n"'


def test_the_last_words_of_a_callable_may_be_half_a_secret(
    farm: Farm, key: str
) -> None:
    half = "def half():\n    print(key()[:9], end='')\n"
    farm.write("calls.py", CALLS + half)
    farm.drop("half", call="calls:half", env_from=["DEMO_API_KEY"])
    farm.work(DEMO_API_KEY=key)

    assert (farm.result("half")["stdout"] == key[:9]) is True


def test_what_a_callable_printed_before_its_worker_died_is_not_kept(
    farm: Farm, key: str
) -> None:
    farm.write("calls.py", CALLS)
    farm.drop("dies", call="calls:dies", env_from=["DEMO_API_KEY"])
    for _ in range(4):
        farm.work(DEMO_API_KEY=key)

    assert farm.status_of("dies") == "lost"
    assert holding(farm, key) == []


def test_while_a_callable_runs_and_when_it_is_killed_no_file_holds_what_it_printed(
    farm: Farm, key: str
) -> None:
    gate = farm.gate()
    waits = "".join(f"    {line}\n" for line in gate.python.splitlines())
    farm.write("calls.py", f"{CALLS}\ndef waits():\n    prints()\n{waits}")
    farm.drop("waits", call="calls:waits", env_from=["DEMO_API_KEY"])
    worker = farm.start_worker(DEMO_API_KEY=key)
    gate.wait_reached()

    assert holding(farm, key) == []
    farm.kill(worker)
    assert holding(farm, key) == []


def test_without_a_secret_the_last_words_of_who_died_are_kept_as_always(
    farm: Farm, key: str
) -> None:
    last = "def last():\n    print('last words', flush=True); os.kill(os.getpid(), 9)\n"
    farm.write("calls.py", CALLS + last)
    farm.drop("a", call="calls:prints", env_from=["DEMO_API_KEY"])
    farm.drop("b", call="calls:last")
    for _ in range(4):
        farm.work(DEMO_API_KEY=key)

    assert (farm.state / "logs" / "b.1.out").read_text() == "last words\n"


def test_a_daemon_that_holds_the_pipe_is_not_waited_for(farm: Farm, key: str) -> None:
    gate = farm.gate()
    daemon = f"setsid sh -c 'while [ ! -e {gate.folder}/open ]; do sleep 0.02; done' &"
    farm.drop("job", run=f"{daemon} echo $DEMO_API_KEY", env_from=["DEMO_API_KEY"])
    farm.work(DEMO_API_KEY=key)
    gate.open()

    assert shown(farm.result("job")["stdout"], key) == '"[secret]\\n"'


def test_a_variable_that_is_no_secret_stays_in_what_is_printed(farm: Farm) -> None:
    farm.drop("job", run="echo $DEMO_PLACE", env_from=["DEMO_PLACE"])
    farm.work(DEMO_PLACE="somewhere-far-away", DEMO_API_KEY=secrets.token_hex())

    assert farm.result("job")["stdout"] == "somewhere-far-away\n"


def test_much_output_does_not_fill_the_worker(farm: Farm, key: str) -> None:
    gate = farm.gate()
    many = f"head -c 300000000 /dev/zero; echo $DEMO_API_KEY; {gate.command}"
    farm.drop("job", run=many, env_from=["DEMO_API_KEY"])
    worker = farm.start_worker("--until-done", DEMO_API_KEY=key)
    gate.wait_reached()
    status = Path(f"/proc/{worker.pid}/status").read_text()
    gate.open()
    farm.wait_for("succeeded", "job")
    (peak,) = [line.split()[1] for line in status.splitlines() if "VmHWM" in line]

    assert int(peak) < 60_000


def test_a_worker_tells_no_secret_on_its_terminal(farm: Farm, key: str) -> None:
    farm.drop("a", run="echo $DEMO_API_KEY >&2; exit 1", env_from=["DEMO_API_KEY"])
    worker = farm.start_worker("--until-done", DEMO_API_KEY=key)
    wait_until(lambda: worker.poll() is not None)

    assert ("exit code 1: [secret]" in said(farm)) is True
    assert holding(farm, key) == []


def test_a_bug_in_farm_tells_no_secret(farm: Farm, key: str) -> None:
    farm.write(
        "bug.py",
        "import sys\nfrom farm import work\nfrom farm.__main__ import main\n"
        "def work_once(worker):\n"
        "    raise RuntimeError(worker.secrets.get('DEMO_API_KEY', {}))\n"
        "work.work_once = work_once\n"
        "main()\n",
    )
    farm.start_python("bug.py", "worker", str(farm.root), DEMO_API_KEY=key).wait(30)

    assert ("RuntimeError: [secret]" in said(farm)) is True
    assert holding(farm, key) == []


def test_a_thread_that_fails_tells_no_secret(farm: Farm, key: str) -> None:
    farm.write(
        "bug.py",
        "import sys, threading\nfrom farm import work\n"
        "from farm.__main__ import main\n"
        "def work_once(worker):\n"
        "    def fail():\n"
        "        raise RuntimeError(worker.secrets.get('DEMO_API_KEY', {}))\n"
        "    thread = threading.Thread(target=fail, name='one')\n"
        "    worker.capture.end()\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    worker.stop.ask_once('seen')\n"
        "    return True\n"
        "work.work_once = work_once\n"
        "main()\n",
    )
    farm.start_python("bug.py", "worker", str(farm.root), DEMO_API_KEY=key).wait(30)

    assert ("Exception in thread one:" in said(farm)) is True
    assert ("RuntimeError: [secret]" in said(farm)) is True
    assert holding(farm, key) == []


def test_a_key_in_a_file_is_a_secret_and_the_path_is_none(
    farm: Farm, key: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("keys") / "of-the-demo"
    key = key.replace('"', "")
    path.write_text(key)
    path.chmod(0o600)
    name = "DEMO_API_KEY_1_FILE"
    farm.drop("a", run=f"echo ${name}; cat ${name}", env_from=[name])
    farm.work(DEMO_API_KEY_1_FILE=str(path))

    assert shown(farm.result("a")["stdout"], key) == f'"{path}\\n[secret]"'
    assert holding(farm, key) == []


@pytest.mark.parametrize("verb", ["worker", "supervise"])
def test_a_key_that_others_may_read_lets_nobody_start(
    farm: Farm, key: str, verb: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("keys") / "of-the-demo"
    path.write_text(key)
    path.chmod(0o644)
    done = farm.farm(verb, "--until-done", DEMO_API_KEY_1_FILE=str(path))

    assert done.returncode == 2
    assert done.stderr == (
        "farm: DEMO_API_KEY_1_FILE names a file that others may read: make it yours"
        " alone (chmod 600)\n"
    )
    assert farm.worker_names() == []


def test_what_is_told_about_a_key_is_no_secret() -> None:
    url = "https://api.example/some-place"
    told = {"DEMO_BASE_URL_1": url, "DEMO_MODEL_1": "model-of-some-size"}
    environ = {**told, "DEMO_PASSWORD_FILE": "/run/my/password"}
    taken = Secrets.take(environ)

    assert taken.redactor is None
    assert taken.given([*told, "DEMO_PASSWORD_FILE"]) == ()
    assert environ == told
    assert taken.back_into(environ)["DEMO_PASSWORD_FILE"] == "/run/my/password"


def test_verbs_show_no_value_of_env(farm: Farm) -> None:
    value = secrets.token_urlsafe()
    farm.drop("a", run="true", env={"PLAIN": value})
    farm.work()
    for verb in (["show", "a"], ["why", "a"], ["status"], ["show", "a", "--json"]):
        farm.farm(*verb)
    by_result = (value in farm.result_path("a").read_text()) or (
        value in "".join(farm.said)
    )

    assert by_result is False
