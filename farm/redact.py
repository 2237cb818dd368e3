"""Take secrets out of what is written: `[secret]` stands where one stood.

    redactor = Redactor(secrets)
    redactor.clean(data), redactor.clean_text(text), redactor.clean_json(raw)
    stream = redactor.stream()          # stream.feed(chunk) ..., stream.close()

A secret is found in every form that programs are known to write it in (`_forms`): as
it is; as a URL (its user part, too), a form or JSON has it, also JSON in JSON; as Python's
`repr`, a shell (`sh -x`, `printf %q`, `export -p`), XML or HTML write it; in base64, standard or
URL-safe, also inside of a longer text that was encoded with it, and broken into lines of
64 letters or more, which JSON may write as `\\n`. Of a secret of several lines, such as a
private key, each line of at least 8 letters is one, too, in all forms except base64. A letter of base64 that it shares with
a neighbour stays: up to four bits of its first and last byte. Of two that overlap, the
one that begins first is taken out, which cuts the other.

Not found is what no such program writes: some letters escaped and others like them not,
hex, reversed, cut in two. A secret of less than 8 bytes is not looked for: it would be
found everywhere.

A stream holds back what could be the beginning of a secret, and passes on all else at
once (of base64 with line breaks it may hold some letters more). However a text is split
into chunks, the same comes out.

How: each form is a literal needle. A text that has no part of one (`_signs`), by far the
most, is only searched for those, at the speed of `bytes.find`. Any other goes through
one pattern of all needles, which is compiled when it is first needed.
"""

import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import orjson

WORD = b"[secret]"
SHORTEST = 8  # bytes; a shorter secret would be found everywhere
_SIGN = 32  # letters; of two such parts next to each other a line break spares one
_BREAK = rb"\n|\\n|\r\n|\\r\\n"
_MOST_BREAK = 4  # bytes of it
_BREAKS = re.compile(_BREAK)
_HALF_BREAK = re.compile(rb"(?:\\r|\r)?\\?\Z")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
#: what some encoders for URLs escape: Python's quote without and with "/", JavaScript's
_ESCAPED = (
    rb"[^\w.~-]",
    rb"[^\w.~/-]",
    rb"[^\w.~!*'()-]",
    rb"[^\w.~!*'();/?:@&=+$,#-]",
    rb"[^\w.~!$&'()*+,;=-]",  # the user part, without and with ":"
    rb"[^\w.~!$&'()*+,;=:-]",
)
_LEAST_RUN = 8  # letters and digits in a row; shorter ones are in many texts
_RUN = re.compile(rb"[A-Za-z0-9]+")
#: how XML and HTML write quotes: not at all, or by a name or number
_XML_QUOTES = (
    ('"', "'"),
    ("&quot;", "'"),
    ("&quot;", "&#x27;"),
    ("&quot;", "&#39;"),
    ("&quot;", "&apos;"),
    ("&#34;", "&#39;"),
)


class Redactor:
    """Knows some secrets; without any it returns what it gets. Has no repr of them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        raw = {secret.encode("utf-8", "surrogateescape").strip() for secret in secrets}
        known = [secret for secret in raw if len(secret) >= SHORTEST]
        lines = {line for secret in known for line in _lines(secret)}
        broken = {needle for secret in known for needle in _in_base64(secret)}
        whole = {
            form for secret in known for form in _in_url_of_base64(secret)
        } - broken
        signs = set(whole)
        for secret in {*known, *lines}:
            forms = set(_escaped(secret))
            whole |= forms
            signs |= _common(secret, forms)
        self._broken = broken
        self._needles = sorted(
            whole | broken, key=lambda needle: (-len(needle), needle)
        )
        self._signs = signs | {sign for needle in broken for sign in _signs(needle)}
        self._most = max(map(len, self._needles), default=0)
        #: bytes that one may take up, with a line break after each
        self.longest = (1 + _MOST_BREAK) * self._most

    def __bool__(self) -> bool:
        return bool(self._needles)

    def clean(self, data: bytes) -> bytes:
        """The same without secrets."""
        return self._pattern.sub(WORD, data) if self._may_hold_one(data) else data

    def clean_text(self, text: str) -> str:
        """The same for text."""
        if not self:
            return text
        data = text.encode("utf-8", "surrogatepass")
        cleaned = self.clean(data)
        return text if cleaned == data else cleaned.decode("utf-8", "replace")

    def clean_json(self, raw: bytes) -> bytes:
        """The same for a JSON value, which stays one."""
        if self.clean(raw) == raw:
            return raw
        cleaned = orjson.dumps(self._clean_value(orjson.loads(raw)))
        if self.clean(cleaned) != cleaned:  # the secret itself is JSON
            return orjson.dumps(WORD.decode())
        return cleaned

    def _clean_value(self, value: object) -> object:
        if isinstance(value, str):
            return self.clean_text(value)
        if isinstance(value, list):
            return [self._clean_value(inner) for inner in value]
        if isinstance(value, dict):
            return {self.clean_text(k): self._clean_value(v) for k, v in value.items()}
        written = orjson.dumps(value)
        return value if self.clean(written) == written else WORD.decode()

    def stream(self) -> "Stream":
        """For a text that comes in chunks."""
        return Stream(self)

    # -- for a stream ------------------------------------------------------------

    def find(self, raw: bytes) -> Iterable["re.Match[bytes]"]:
        """Where secrets are, one after the other."""
        return self._pattern.finditer(raw) if self._may_hold_one(raw) else ()

    def beginning(self, raw: bytes) -> int:
        """Where something begins that may become a secret."""
        tail = raw[max(0, len(raw) - self.longest) :]
        flat = _HALF_BREAK.sub(b"", _BREAKS.sub(b"", tail))
        begin = len(tail) - self._begun(tail)
        if len(flat) < len(tail) and (begun := self._begun(flat)):
            # All breaks may lie in it; if not, its first letter comes later.
            letter = flat[-begun : len(flat) - begun + 1]
            begin = min(begin, tail.find(letter, len(flat) - begun))
        return len(raw) - len(tail) + begin

    def _begun(self, text: bytes) -> int:
        """How much of its end is the beginning of a needle."""
        for found in self._first.finditer(text, max(0, len(text) - self._most + 1)):
            end = text[found.start() :]
            if any(needle.startswith(end, 0, -1) for needle in self._needles):
                return len(end)
        return 0

    def _may_hold_one(self, raw: bytes) -> bool:
        return any(sign in raw for sign in self._signs)

    @cached_property
    def _pattern(self) -> "re.Pattern[bytes]":
        """All needles; of two that begin at one place the longer is found."""
        between = b"(?:%b|)" % _BREAK  # quicker than `?`
        patterns = (
            between.join(re.escape(bytes([letter])) for letter in needle)
            if needle in self._broken
            else re.escape(needle)
            for needle in self._needles
        )
        return re.compile(b"|".join(patterns))

    @cached_property
    def _first(self) -> "re.Pattern[bytes]":
        """The first byte of a needle, if its second or the end of the text follows."""
        pairs = {(needle[:1], needle[1:2]) for needle in self._needles}
        letters = (rb"%b(?=%b|\Z)" % (*map(re.escape, pair),) for pair in sorted(pairs))
        return re.compile(b"|".join(letters))


class Stream:
    """A text that comes in chunks; see the module's docstring."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can be passed on, now that this has come."""
        if not self._redactor:
            return chunk
        raw = self._held + chunk
        begin = self._redactor.beginning(raw)
        out: list[bytes] = []
        at = 0
        for found in self._redactor.find(raw):
            if found.start() >= begin:
                break  # what begins before may grow over it
            out += (raw[at : found.start()], WORD)
            at = found.end()
            begin = max(begin, at)
        self._held = raw[begin:]
        return b"".join((*out, raw[at:begin]))

    def close(self) -> bytes:
        """What is left: nothing more will come."""
        held, self._held = self._held, b""
        return self._redactor.clean(held)


# -- what to look for ----------------------------------------------------------------


def _signs(needle: bytes) -> Iterator[bytes]:
    """Two parts: however it is broken into lines, one of them is whole."""
    size = min(_SIGN, len(needle) // 2)
    yield needle[:size]
    yield needle[size : 2 * size]


def _common(secret: bytes, forms: set[bytes]) -> set[bytes]:
    """One of these is in each of these forms of a secret.

    Nobody escapes letters and digits: a long run of them is in every form.
    """
    run = max(_RUN.findall(secret), key=len, default=b"")
    if len(run) >= _LEAST_RUN:
        return {run}
    found: set[bytes] = set()
    for form in sorted(forms, key=len):
        if not any(sign in form for sign in found):
            found.add(form)
    return found


def _lines(secret: bytes) -> list[bytes]:
    """Each line of a secret that has several, without what it is indented by."""
    lines = [line.strip() for line in secret.splitlines()]
    return [line for line in lines if len(line) >= SHORTEST] if len(lines) > 1 else []


def _in_url_of_base64(secret: bytes) -> Iterator[bytes]:
    for core in _in_base64(secret):
        yield from _in_url(core)


def _escaped(secret: bytes) -> Iterator[bytes]:
    """As it is, and in all forms in which some of its letters are written otherwise."""
    yield secret
    yield from _in_url(secret)
    text = secret.decode("utf-8", "replace")
    for written in _in_json(text):
        yield written.encode()
        yield from (again.encode() for again in _in_json(written))
    yield repr(b"'\"" + secret)[5:-1].encode()
    for written in (*_in_repr(text), *_in_shell(text), *_in_xml(text)):
        yield written.encode()
        yield orjson.dumps(written)[1:-1]


def _in_base64(secret: bytes) -> Iterator[bytes]:
    """The letters that are its own, with 0, 1 or 2 bytes encoded together with it.

    Also to their padded end: nothing may follow in what was encoded.
    """
    for before in range(3):
        whole = binascii.b2a_base64(bytes(before) + secret, newline=False)
        bits = 8 * (before + len(secret))
        for last in (len(whole), bits // 6):
            core = whole[-(-8 * before // 6) : last]
            yield core
            yield core.translate(_URL_SAFE)
            yield core.replace(b"/", rb"\/")


def _in_url(text: bytes) -> Iterator[bytes]:
    for escaped in _ESCAPED:
        for digits in (b"%%%02X", b"%%%02x"):
            quoted = re.sub(escaped, _as(digits), text)
            yield quoted
            yield quoted.replace(b"%20", b"+")


def _as(digits: bytes) -> "Callable[[re.Match[bytes]], bytes]":
    return lambda found: digits % found[0][0]


def _in_json(text: str) -> Iterator[str]:
    """With and without other letters than ASCII; PHP escapes `/`, and Go `<>&`."""
    written = orjson.dumps(text)[1:-1].decode()
    for escaped in (r"[^\0-\uffff]{0}", r"[^\0-\x7f]", r"[<>&\u2028\u2029]"):
        for digits in ("04x", "04X"):
            coded = re.sub(
                escaped, lambda found, d=digits: _units(found[0], d), written
            )
            yield coded
            yield coded.replace("/", r"\/")


def _in_repr(text: str) -> Iterator[str]:
    """Between both kinds of quotes, and with other letters than ASCII escaped."""
    for write in (repr, ascii):
        written = write(f"'\"{text}")[4:-1]  # with both in it, it escapes `'`
        yield written
        yield written.replace(r"\'", "'")


def _in_shell(text: str) -> Iterator[str]:
    """Between quotes of each kind, and letter by letter; `sh -x` differs from bash."""
    yield text.replace("'", r"'\''")
    yield text.replace("'", "'\"'\"'")
    yield re.sub(r"([\\\"$`])", r"\\\1", text)
    yield re.sub(r"([\\\"$`!])", r"\\\1", text)
    yield _in_ansi_c(text)
    for odd in (r"[^\w@%+=:./,-]", r"[^\w@%+=:./-]"):
        yield re.sub(f"({odd})", r"\\\1", text)


def _in_ansi_c(text: str) -> str:
    """As bash writes what holds a control character: `$'one\\ntwo'`."""
    written = text.replace("\\", r"\\").replace("'", r"\'")
    for letter, name in zip("\a\b\t\n\v\f\r\x1b", "abtnvfrE", strict=True):
        written = written.replace(letter, f"\\{name}")
    return written


def _in_xml(text: str) -> Iterator[str]:
    """With each way to write quotes; `>` may stay as it is."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;")
    for written in (plain, plain.replace(">", "&gt;")):
        for double, single in _XML_QUOTES:
            yield written.replace('"', double).replace("'", single)


def _units(letter: str, digits: str) -> str:
    r"""`\u00e9` for an e with an accent; two of them beyond U+FFFF."""
    raw = letter.encode("utf-16-be")
    units = (raw[at] << 8 | raw[at + 1] for at in range(0, len(raw), 2))
    return "".join(rf"\u{unit:{digits}}" for unit in units)
