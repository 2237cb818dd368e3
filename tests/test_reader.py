"""One reader: no module but `farm.disk` opens a file of a project to read it."""

import ast
import errno
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from farm import disk, ledger, life, result, tomlfile
from farm.errors import ConfigError
from farm.project import Project
from farm.shelf import ArchiveError, pairs

FARM = Path(disk.__file__).parent
#: calls that open or read a file; those of a class of ours are spelt otherwise
OPENERS = {"open", "os.open", "io.open", "gzip.open", "os.fdopen"}
METHODS = {"read_text", "read_bytes", "fromfile"}
#: who opens a file otherwise than to read what lies in a project, and why
ALLOWED = {
    "disk.py": "the reader itself",
    "ledger.py": "a lock, opened to append; read by `disk.read_fd`",
    "life.py": "a new file that becomes a life lock",
    "credentials.py": "a lock file that nobody reads",
    "rescue.py": "a life lock, opened to lock it",
    "trial.py": "canaries that it made itself",
    "doctor/trials.py": "files that it made itself",
    "capture.py": "what callables print, opened to write; the null device",
    "command.py": "logs, opened to write",
    "shelf.py": "a new archive, opened to write",
    "program.py": "the first line of a program that did not start",
    "project.py": "a new file in `.farm/`",
    "trust.py": "paths, not bytes; and a new file to see whose it becomes",
    "mount.py": "the kernel's table of mounts",
    "cli/streams.py": "the null device, and streams that are missing",
    "cli/help.py": "the guide, which is farm's own",
}


def name_of(node: ast.expr) -> str:
    return ast.unparse(node)


def openers(tree: ast.AST) -> Iterator[int]:
    """The lines on which a file is opened, or read by its path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = name_of(node.func)
            if name in OPENERS or name.rpartition(".")[2] in METHODS:
                yield node.lineno


def undecoded(tree: ast.AST) -> Iterator[int]:
    """The lines on which msgspec decodes outside of a `try` for `NO_JSON`."""
    guarded: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            caught = " ".join(name_of(h.type) for h in node.handlers if h.type)
            if "NO_JSON" in caught or "RecursionError" in caught:
                guarded |= {id(n) for part in node.body for n in ast.walk(part)}
        elif isinstance(node, ast.With) and "NO_JSON" in ast.unparse(node.items[0]):
            guarded |= {id(n) for part in node.body for n in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in guarded:
            name = name_of(node.func)
            if name == "msgspec.json.decode" or name.endswith(
                (".decode_lines", "_PAIR.decode", "_LINE.decode", "_HEAD.decode")
            ):
                yield node.lineno


def parsed() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(FARM.rglob("*.py")):
        yield str(path.relative_to(FARM)), ast.parse(path.read_text())


def test_nothing_else_opens_files() -> None:
    found = {name for name, tree in parsed() if list(openers(tree))}

    assert found == ALLOWED.keys()


def test_a_planted_open_is_seen() -> None:
    planted = "import os\nos.open('x', 0)\nopen('y')\nPath('z').read_text()\n"

    assert list(openers(ast.parse(planted))) == [2, 3, 4]


def test_who_decodes_json_expects_that_it_is_nested_too_deep() -> None:
    found = {name: lines for name, t in parsed() if (lines := list(undecoded(t)))}

    assert found == {}


def test_a_planted_decode_is_seen() -> None:
    planted = (
        "try:\n    msgspec.json.decode(raw)\nexcept msgspec.MsgspecError:\n    raise\n"
    )

    assert list(undecoded(ast.parse(planted))) == [2]


# -- its bounds ----------------------------------------------------------------------


def sparse(path: Path, size: int) -> Path:
    path.touch()
    os.truncate(path, size)
    return path


def test_a_file_at_its_limit_is_read_and_one_beyond_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"

    assert len(disk.read_file(sparse(path, disk.SMALL), disk.SMALL)) == disk.SMALL
    with pytest.raises(OSError, match="it holds more than 64 KiB") as caught:
        disk.read_file(sparse(path, disk.SMALL + 1), disk.SMALL)
    assert caught.value.errno == errno.EOVERFLOW


def test_a_file_of_256_gb_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it holds more than 128 MiB"):
        disk.read_file(sparse(tmp_path / "file", 1 << 38))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a device")
def test_a_device_that_never_ends_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zero"
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
        disk.open_to_read(path)
    except PermissionError:
        pytest.skip("no devices here")

    with pytest.raises(OSError, match="it holds more than 128 MiB"):
        disk.read_file(path)


def test_a_file_of_many_parts_is_read_whole(tmp_path: Path) -> None:
    raw = os.urandom(1000) * 200
    path = tmp_path / "file"
    path.write_bytes(raw)

    assert disk.read_file(path) == raw


@pytest.mark.parametrize("depth", [1, 253, 254, 255, 300, 1000])
def test_json_is_written_as_deep_as_it_is_read(depth: int) -> None:
    raw = b'{"a":1,"b":' + b"[" * depth + b'{"x":[],"y":{}},2' + b"]" * depth + b"}"

    assert disk.encode(orjson.loads(raw)) == raw + b"\n"


def test_a_key_that_is_no_text_is_refused_at_any_depth() -> None:
    value: object = {1: 2}
    for _ in range(300):
        value = [value]

    with pytest.raises(TypeError):
        disk.encode(value)


@pytest.mark.parametrize("depth", [1010, 100_000])
def test_json_that_is_nested_too_deep_is_no_record(
    project: Project, depth: int
) -> None:
    deep = b"[" * depth + b"]" * depth
    Path(project.life_path("ada")).write_bytes(b'1\n{"name":' + deep + b"}")

    assert life.read(project, "ada") is None
    assert ledger.parse(b'{"line":"ended","x":' + deep + b"}\n") == []
    head = result.parse_head(b'{"status":"succeeded","value":' + deep + b"}")
    assert head is None or head.status == "succeeded"


def test_a_farm_toml_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text("x = " + "[" * 5000 + "]" * 5000)

    with pytest.raises(ConfigError, match="it is nested too deep"):
        tomlfile.TomlFile.read(path)


@pytest.mark.parametrize("part", ["a", '"a"', "'a b'", "a "])
def test_a_dotted_key_of_very_many_parts_is_refused_at_once(
    tmp_path: Path, part: str
) -> None:
    path = tmp_path / "farm.toml"
    path.write_text(f"x = 1\n{part}{f'.{part}' * 100_000} = 1\n")

    with pytest.raises(ConfigError, match=r"farm\.toml:2:1: a key of more than 64"):
        tomlfile.TomlFile.read(path)


def test_a_key_of_a_few_parts_and_a_text_of_many_dots_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text(f"a.b.'c d'.\"e\" = '{'.' * 1000} {'x' * 100_000}'\n")

    assert tomlfile.TomlFile.read(path).table["a"]["b"]["c d"]["e"].startswith("...")


def test_an_archive_with_a_line_without_end_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.shelf._LONGEST_LINE", 1 << 20)
    path = tmp_path / "one.jsonl.gz"
    path.write_bytes(gzip.compress(b"0" * (3 << 20)))

    with pytest.raises(ArchiveError, match="a line of more than"):
        list(pairs(str(path)))
