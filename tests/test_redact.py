"""No secret is left in what was cleaned, whatever form it had and however it came."""

import base64
import html
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote, quote_plus
from xml.sax import saxutils

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from farm.redact import SHORTEST, WORD, Redactor

#: few letters, so that secrets overlap; and all that an encoding writes otherwise
LETTERS = st.sampled_from('ab%\\\n"/+=4un 1é\U0001f511')
SECRETS = st.text(LETTERS, min_size=SHORTEST, max_size=20).filter(
    lambda text: len(text.strip().replace("\n", "")) >= SHORTEST
)
AROUND = st.text(LETTERS, max_size=12)
VISIBLE = st.characters(min_codepoint=33, max_codepoint=126)
#: with five letters at least: base64 of "99999999" looks like itself a letter further on,
#: and of two that overlap the first is taken out
KEYS = st.builds(
    lambda own, more: "".join(own) + more,
    st.lists(VISIBLE, min_size=5, max_size=5, unique=True),
    st.text(VISIBLE, min_size=3, max_size=35),
)


def wrapped(text: str, size: int = 76, end: str = "\n") -> str:
    """As `base64` breaks it over lines."""
    return re.sub(f"(.{{{size}}})", lambda found: found[0] + end, text)


def in_base64(text: str, before: str = "") -> str:
    return base64.b64encode(f"{before}{text}".encode()).decode()


#: how a secret may be written
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": lambda s: quote(s, safe=""),
    "url": lambda s: re.sub("%..", lambda f: f[0].lower(), quote(s, safe="")),
    "URL with /": quote,
    "a form": quote_plus,
    "encodeURIComponent": lambda s: quote(s, safe="!*'()"),
    "encodeURI": lambda s: quote(s, safe="!*'();/?:@&=+$,#"),
    "JSON": lambda s: json.dumps(s)[1:-1],
    "JSON UTF-8": lambda s: msgspec.json.encode(s).decode()[1:-1],
    "JSON of PHP": lambda s: json.dumps(s)[1:-1].replace("/", "\\/"),
    "JSON of Go": lambda s: re.sub(
        "[<>&]",
        lambda f: f"\\u{ord(f[0]):04x}",
        json.dumps(s, ensure_ascii=False)[1:-1],
    ),
    "JSON in capitals": lambda s: re.sub(
        "[^ -\x7f]+",
        lambda f: json.dumps(f[0])[1:-1].upper().replace(r"\U", r"\u"),
        msgspec.json.encode(s).decode()[1:-1],
    ),
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)[1:-1])[1:-1],
    "URL, user part": lambda s: quote(s, safe="!$&'()*+,;="),
    "repr": lambda s: repr(s)[1:-1],
    "repr among other quotes": lambda s: repr(f"'\"{s}")[4:-1],
    "ascii": lambda s: ascii(s)[1:-1],
    "repr of bytes": lambda s: repr(s.encode())[2:-1],
    "repr in JSON": lambda s: (
        json.dumps(repr(s)[1:-1])[1:-1]
        if s.isascii()
        else json.dumps(ascii(s)[1:-1])[1:-1]
    ),
    "sh -x": lambda s: s.replace("'", "'\"'\"'"),
    "bash -x": lambda s: s.replace("'", "'\\''"),
    "export -p": lambda s: re.sub(r'([\\"$`])', r"\\\1", s),
    "HTML": html.escape,
    "HTML of Go": lambda s: (
        html.escape(s, quote=False).replace('"', "&#34;").replace("'", "&#39;")
    ),
    "XML": saxutils.escape,
    "XML attribute": lambda s: saxutils.escape(s, {'"': "&quot;", "'": "&apos;"}),
    "base64": in_base64,
    "base64, 1 before": lambda s: in_base64(s, "x"),
    "base64, 2 before": lambda s: in_base64(s, "xy"),
    "base64 unpadded": lambda s: in_base64(s).rstrip("="),
    "base64 in lines": lambda s: wrapped(in_base64(s, "x" * 63)),
    "base64 in lines of a PEM": lambda s: wrapped(in_base64(s, "x" * 45), 64, "\r\n"),
    "base64 in lines in JSON": lambda s: wrapped(in_base64(s, "x" * 54), 76, r"\n"),
    "base64 in CRLF lines in JSON": lambda s: wrapped(in_base64(s), 76, r"\r\n"),
    "base64 in JSON of PHP": lambda s: in_base64(s).replace("/", r"\/"),
    "base64 URL-safe": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "base64 in a URL": lambda s: quote(in_base64(s), safe=""),
}
lasting = settings(deadline=None, max_examples=15)  # to compile a pattern takes a while
forms = pytest.mark.parametrize("form", FORMS)
BREAK = r"(\n|\r\n|\\n|\\r\\n)"


def streamed(redactor: Redactor, data: bytes, cuts: list[int]) -> bytes:
    """The same text in chunks."""
    stream = redactor.stream()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(places)]
    return b"".join([*map(stream.feed, chunks), stream.close()])


# -- what is found -------------------------------------------------------------------


@forms
@lasting
@given(secret=KEYS)
def test_each_form_is_replaced_whole(form: str, secret: str) -> None:
    assume("[" not in secret)
    written = FORMS[form](secret.strip())
    cleaned = Redactor([secret]).clean_text(f"<< {written} >>")

    # In base64 it may share a letter with what stands before or after.
    match = re.fullmatch(r"<< (.*)\[secret\](.*) >>", cleaned, re.DOTALL)
    before, after = match.groups() if match else ("", "the secret")
    assert written.startswith(before)
    assert written.endswith(after)
    shared = len(re.sub(rf"=|%3D|{BREAK}", "", after))
    assert shared <= ("base64" in form)
    assert not before or "base64" in form


@forms
@lasting
@given(secret=SECRETS, before=AROUND, after=AROUND)
def test_nothing_of_a_form_is_left_inside_any_text(
    form: str, secret: str, before: str, after: str
) -> None:
    written = FORMS[form](secret.strip())
    cleaned = Redactor([secret]).clean_text(before + written + after)

    assert WORD.decode() in cleaned
    assert written not in cleaned


def test_of_two_secrets_that_overlap_the_first_is_replaced_and_the_other_cut() -> None:
    one = "1" + secrets.token_urlsafe(20)
    rest = secrets.token_urlsafe(10)
    cleaned = Redactor([one, one[10:] + rest]).clean_text(f"<{one}{rest}>")

    assert cleaned == f"<[secret]{rest}>"


def test_of_two_secrets_the_longer_is_replaced() -> None:
    key = secrets.token_urlsafe(20)

    assert Redactor([key[:12], key]).clean_text(f"<{key}>") == "<[secret]>"


def test_the_word_tells_nothing_of_the_length() -> None:
    said = {Redactor([k]).clean_text(k) for k in map(secrets.token_hex, range(4, 60))}

    assert said == {"[secret]"}


def test_white_space_around_a_secret_is_not_a_part_of_it() -> None:
    key = secrets.token_urlsafe(20)

    assert Redactor([f" {key}\n"]).clean_text(f"={key}.") == "=[secret]."


def test_bytes_that_are_no_text_may_be_a_secret() -> None:
    raw = bytes(0x80 | byte for byte in secrets.token_bytes(30))

    cleaned = Redactor([raw.decode("utf-8", "surrogateescape")]).clean(b"<%b>" % raw)

    assert len(cleaned) == len(b"<>" + WORD)


# -- what is not ---------------------------------------------------------------------


def test_short_secrets_are_not_looked_for() -> None:
    redactor = Redactor(["true", "", "1234567"])

    assert not redactor
    assert redactor.clean_text("true, 1234567") == "true, 1234567"


def test_without_secrets_everything_is_the_very_same_object() -> None:
    empty, data, text = Redactor([]), b"x" * 1000, "x" * 1000

    assert empty.clean(data) is data
    assert empty.clean_text(text) is text
    assert empty.clean_json(data) is data
    assert empty.stream().feed(data) is data
    assert empty.stream().close() == b""


@lasting
@given(st.binary(max_size=100))
def test_a_text_without_secrets_stays_as_it_is(data: bytes) -> None:
    redactor = Redactor([secrets.token_hex(), secrets.token_urlsafe()])

    assert redactor.clean(data) == data
    assert streamed(redactor, data, [7, 30]) == data


def test_a_redactor_does_not_show_its_secrets() -> None:
    key = secrets.token_urlsafe()
    redactor = Redactor([key])
    shown = f"{redactor!r} {redactor} {redactor.stream()!r}"

    assert (key in shown) is False


# -- in chunks -----------------------------------------------------------------------


@lasting
@given(
    known=st.lists(SECRETS, min_size=1, max_size=3),
    parts=st.lists(
        st.one_of(st.tuples(st.sampled_from(sorted(FORMS)), st.integers()), AROUND),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 1 << 16), max_size=12),
)
def test_however_a_text_is_split_the_same_comes_out(
    known: list[str], parts: list[str | tuple[str, int]], cuts: list[int]
) -> None:
    redactor = Redactor(known)
    words = [
        p if isinstance(p, str) else FORMS[p[0]](known[p[1] % len(known)].strip())
        for p in parts
    ]
    data = "".join(words).encode()

    whole = streamed(redactor, data, [])
    assert streamed(redactor, data, cuts) == whole
    assert streamed(redactor, data, [*range(len(data))]) == whole
    assert redactor.clean(data) == whole
    assert not any(key.strip().encode() in whole for key in known)


def test_what_cannot_begin_a_secret_is_passed_on_at_once() -> None:
    key = "k" + secrets.token_hex()
    stream = Redactor([key]).stream()

    assert stream.feed(b"Password: ") == b"Password: "
    assert len(stream.feed(b"ok\n" + key[:9].encode())) == len(b"ok\n")
    assert stream.feed(b"no") == key[:9].encode() + b"no"
    assert stream.feed(key.encode()) == WORD
    assert stream.close() == b""


def test_a_secret_is_found_letter_by_letter_after_what_looks_like_its_beginning() -> (
    None
):
    key = "aab" + secrets.token_hex()
    redactor = Redactor([key])

    assert streamed(redactor, f"a{key}".encode(), [*range(99)]) == b"a" + WORD


def test_the_beginning_of_a_secret_is_told_if_no_more_comes() -> None:
    key = secrets.token_hex()
    stream = Redactor([key]).stream()

    assert stream.feed(key[:-1].encode()) == b""
    assert stream.close().decode() == key[:-1]


@pytest.mark.parametrize(
    "evil", ["{0}", "{0}\n\n", "%{1}", "\\", "a", "%", "\n", "%0a"]
)
def test_no_text_makes_a_stream_hold_more_than_a_secret_needs(evil: str) -> None:
    key = "a" * 32
    redactor = Redactor([key])
    stream = redactor.stream()
    chunk = (evil.format("a" * 31, "61" * 3) * 3000).encode()
    most = 0
    for _ in range(20):
        stream.feed(chunk)
        most = max(most, len(stream._held))  # memory is what is counted

    assert most <= redactor.longest


# -- JSON ----------------------------------------------------------------------------

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), AROUND),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(AROUND, inner)),
    max_leaves=8,
)


@lasting
@given(value=JSON, secret=st.one_of(SECRETS, st.just("12345678")))
def test_json_stays_json(value: object, secret: str) -> None:
    redactor = Redactor([secret])
    told = {"in": secret, f"x{secret}": [value, 12345678, f"<{secret}>"]}
    cleaned = redactor.clean_json(msgspec.json.encode(told))

    assert json.loads(cleaned) is not None
    assert redactor.clean(cleaned) == cleaned
    assert redactor.clean_json(cleaned) == cleaned


def test_only_the_secret_is_taken_out_of_json() -> None:
    key = secrets.token_urlsafe()
    told = {"n": [1, 2.5, None, True], "key": f"it is {key}", key: 1}

    cleaned = Redactor([key]).clean_json(msgspec.json.encode(told))

    expected = {"n": [1, 2.5, None, True], "key": "it is [secret]", "[secret]": 1}
    assert json.loads(cleaned) == expected


def test_a_secret_that_is_json_itself_takes_the_whole_value() -> None:
    key = json.dumps({"type": "account", "id": 7}, separators=(",", ":"))

    assert Redactor([key]).clean_json(f"[1,{key}]".encode()) == b'"[secret]"'


# -- several lines, and real shells ---------------------------------------------------

PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq/hkiG9w0BAQEFAASC\nBKcwggSj+AgEAAoIB\n-----END KEY-----"
EACH_LINE: dict[str, Callable[[str], str]] = {
    "indented": lambda s: "".join(f"    {line}\n" for line in s.splitlines()),
    "with CRLF": lambda s: s.replace("\n", "\r\n"),
    "in reverse order": lambda s: "\n".join(reversed(s.splitlines())),
    "quoted": lambda s: "\n".join(f"> {line} <" for line in s.splitlines()),
    "repr": repr,
    "in JSON of PHP": lambda s: json.dumps(s).replace("/", r"\/"),
    "a second time": lambda s: f"{s}\n{s.splitlines()[1]}",
}


@pytest.mark.parametrize("form", EACH_LINE)
def test_each_line_of_a_secret_is_replaced(form: str) -> None:
    said = EACH_LINE[form](PEM)
    stream = Redactor([PEM]).stream()

    for cleaned in (
        Redactor([PEM]).clean_text(said),
        (stream.feed(said.encode()) + stream.close()).decode(),
    ):
        for line in PEM.splitlines():
            assert line not in cleaned
            assert line.replace("/", r"\/") not in cleaned


def test_a_short_line_of_a_secret_is_not_looked_for_alone() -> None:
    redactor = Redactor(["first line of it\nshort\nthe last line"])

    assert redactor.clean(b"a short text") == b"a short text"


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(
    "secret", ["p'a\"s\\s<w&o>rd%1$!tail", "two words `and` $more"]
)
def test_what_a_shell_traces_and_quotes_is_cleaned(shell: str, secret: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    code = 'set -x; : "$S"; export -p; echo "$S"'
    code += "; printf '%q\\n' \"$S\"" if shell == "bash" else ""
    done = subprocess.run(
        [shell, "-c", code], env={"S": secret}, capture_output=True, check=True
    )
    cleaned = Redactor([secret]).clean(done.stdout + done.stderr).decode()

    assert "tail" not in cleaned
    assert "more" not in cleaned
    assert cleaned.count("[secret]") >= 4


@lasting
@given(st.text(LETTERS | st.sampled_from("abcdefgh'<&>$!"), min_size=8, max_size=20))
def test_no_form_of_a_secret_goes_unseen(secret: str) -> None:
    assume(len(secret.strip()) >= SHORTEST)
    redactor = Redactor([secret])

    for needle in redactor._needles:
        assert redactor.clean(b"<" + needle + b">") != b"<" + needle + b">"
