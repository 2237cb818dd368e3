"""Take secrets out of what is written: `[secret]` stands where one stood.

    redactor = Redactor(secrets)
    redactor.clean(data), redactor.clean_text(text), redactor.clean_json(raw)
    stream = redactor.stream()          # stream.feed(chunk) ..., stream.close()

A secret is found as it is; in base64, standard or URL-safe, also inside of a longer
text that was encoded with it; with any of its bytes as `%XX` or as JSON writes them; and
broken over lines, as `base64` does it. Whatever overlaps becomes one word, which tells
neither length nor end. Not found is what was changed otherwise (hex, reversed, cut in
two), and a secret of less than 8 bytes is not looked for: it would be found everywhere.

A stream holds back what could be the beginning of a secret, and passes on all else at
once. However a text is split into chunks, the same comes out.

How: the text is searched as it is, and as it is `_Seen` where each escape stands for
the byte that it means and line breaks are left out. What cannot hold a secret (by far
the most) is searched at the speed of `bytes.find`, and not seen any closer.
"""

import binascii
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain

import orjson

WORD = b"[secret]"
SHORTEST = 8  # bytes; a shorter secret would be found everywhere
_PIECE = 1 << 16  # bytes; as much of a long text is looked at in one go
_BREAKS = b"\r\n"
_BREAK = re.compile(rb"[\r\n]")
_KINDS = {
    b"%": re.compile(rb"[\r\n]|%[0-9A-Fa-f]{2}"),
    b"\\": re.compile(rb'[\r\n]|\\(?:u[0-9A-Fa-f]{4}|["\\/bfnrt])'),
}
_ESCAPE = re.compile(rb'%[0-9A-Fa-f]{2}|\\(?:u[0-9A-Fa-f]{4}|["\\/bfnrt])')
_UNFINISHED = re.compile(rb"(?:%[0-9A-Fa-f]?|\\(?:u[0-9A-Fa-f]{0,3})?)\Z")
#: after all characters of base64 that are the secret's alone: one more, and the padding
_REST = re.compile(
    rb"(?:[\r\n]{0,2}(?:[\w+/-]|%2[BFbf]))?(?:[\r\n]{0,2}(?:=|%3[Dd])){0,2}", re.ASCII
)
_MOST_BREAKS = 2  # in `_REST`, between two characters
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Redactor:
    """Knows some secrets; without any it returns what it gets. Has no repr of them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        raw = {s.encode("utf-8", "surrogateescape").strip() for s in secrets}
        forms = dict(chain.from_iterable(map(_forms, raw)))
        self._needles = tuple(forms)
        self._is_cut = frozenset(needle for needle, cut in forms.items() if cut)
        #: raw bytes that one may take up, each as an escape, and some line breaks
        self.longest = 8 * max(map(len, forms), default=0)
        self._beginnings: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for needle in forms:
            for size in range(1, len(needle)):
                self._beginnings[needle[size - 1]].append((size, needle))
        for found in self._beginnings.values():
            found.sort(reverse=True)

    def __bool__(self) -> bool:
        return bool(self._needles)

    def clean(self, data: bytes) -> bytes:
        """The same without secrets: the very same object if there are none."""
        if len(data) < SHORTEST or self.is_plain(data):
            return data
        stream = self.stream()
        pieces = [
            stream.feed(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE)
        ]
        return b"".join([*pieces, stream.close()])

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

    def is_plain(self, raw: bytes) -> bool:
        """Whether, at a glance, no whole secret can be in there."""
        if not self._needles:
            return True
        if b"%" in raw or b"\\" in raw:
            return False
        flat = raw.translate(None, _BREAKS)
        return not any(needle in flat for needle in self._needles)

    def spans(self, view: "_View") -> Iterator[tuple[int, int, bool]]:
        """Where secrets lie in the raw text, and whether all of each is seen yet."""
        for needle in self._needles:
            for start, end in view.find(needle):
                if end - start > self.longest:
                    continue
                if needle not in self._is_cut:
                    yield start, end, end <= view.sound
                    continue
                found = _REST.match(view.raw, end)
                stop = found.end() if found else end
                yield start, stop, stop <= view.sound and not view.may_go_on(stop)

    def beginning(self, view: "_View") -> int:
        """Where in the raw text something begins that may become a secret."""
        size = len(view.raw)
        begin = view.sound
        for text, lies_at in view.texts():
            for length, needle in self._beginnings.get(text[-1] if text else -1, ()):
                if text.endswith(needle[:length]):
                    at = view.floor(lies_at(len(text) - length))
                    if size - at < self.longest:
                        begin = min(begin, at)
                        break
        return begin


class Stream:
    """A text that comes in chunks; see the module's docstring."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""
        self._covered = 0  # bytes of what is held that a word stands for already

    def feed(self, chunk: bytes) -> bytes:
        """What can be passed on, now that this has come."""
        if not self._redactor:
            return chunk
        return self._pass_on(self._held + chunk, is_last=False)

    def close(self) -> bytes:
        """What is left: nothing more will come."""
        return self._pass_on(self._held, is_last=True)

    def _pass_on(self, raw: bytes, *, is_last: bool) -> bytes:
        skipped = 0
        if self._redactor.is_plain(raw):
            skipped = max(0, len(raw) - self._redactor.longest)
        view = _View(raw[skipped:])
        spans = sorted(self._redactor.spans(view))
        cut = len(raw)
        if not is_last:
            undecided = [start for start, _, is_whole in spans if not is_whole]
            cut = min([self._redactor.beginning(view), *undecided]) + skipped
        out, at = [], self._covered
        for start, end, _ in spans:  # there are none if something was skipped
            if start >= cut:
                break
            if start >= at:
                out += [raw[at:start], WORD]
            at = max(at, end)
        out.append(raw[at:cut])
        self._held, self._covered = raw[cut:], max(0, at - cut)
        return b"".join(out)


class _View:
    """A text in every way that it may be meant: as it is, for a URL, for JSON.

    What comes after `sound` may be the beginning of an escape.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        kinds = [kind for sign, kind in _KINDS.items() if sign in raw]
        self._seen = [_Seen(raw, kind) for kind in (_BREAK, *kinds)]
        #: where escapes of any kind lie; they never overlap
        self._lies = _Seen(raw, _ESCAPE).lies if kinds else [0]
        unfinished = _UNFINISHED.search(raw, max(self._lies[-1], len(raw) - 5))
        self.sound = unfinished.start() if unfinished else len(raw)

    def texts(self) -> Iterator[tuple[bytes, Callable[[int], int]]]:
        """Each without what may be half an escape, and where in `raw` its bytes are."""
        yield self.raw, int
        for seen in self._seen:
            size = len(seen.text) - (len(self.raw) - self.sound)
            yield seen.text[:size], seen.begin

    def find(self, needle: bytes) -> Iterator[tuple[int, int]]:
        """Where it lies in `raw`; twice, perhaps."""
        size = len(needle)
        for at in _everywhere(needle, self.raw):
            yield self.floor(at), self._ceiling(at + size)
        for seen in self._seen:
            for at in _everywhere(needle, seen.text):
                begin, end = seen.begin(at), seen.end(at + size)
                yield self.floor(begin), self._ceiling(end)

    def may_go_on(self, at: int) -> bool:
        """Whether what matched `_REST` up to here could have been longer."""
        left = self.raw[at : self.sound]
        return len(left) <= _MOST_BREAKS and not left.strip(_BREAKS)

    def floor(self, at: int) -> int:
        """The same place, or the beginning of the escape that it lies in."""
        mark = bisect_right(self._lies, at) - 1
        return self._lies[mark] if mark % 2 else at

    def _ceiling(self, at: int) -> int:
        """The same place, or the end of the escape that it lies in."""
        mark = bisect_left(self._lies, at)
        inside = mark % 2 == 0 and mark < len(self._lies)
        return self._lies[mark] if inside else at


class _Seen:
    """A text with what is special replaced by what it means.

    `seen` are places in it and `lies` the same places in the raw text: at odd
    numbers the beginning of something special, at even ones its end.
    """

    def __init__(self, raw: bytes, special: "re.Pattern[bytes]") -> None:
        self.seen, self.lies = [0], [0]
        parts: list[bytes] = []
        size = end = 0
        for found in special.finditer(raw):
            start, last = found.start(), end
            end, means = found.end(), _meaning(found[0])
            parts += (raw[last:start], means)
            size += start - last
            self.seen += (size, size + len(means))
            self.lies += (start, end)
            size += len(means)
        self.text = b"".join([*parts, raw[end:]])

    def begin(self, at: int) -> int:
        """Where in the raw text the byte lies that is seen here."""
        mark = bisect_right(self.seen, at) - 1
        inside = 0 if mark % 2 else at - self.seen[mark]
        return self.lies[mark] + inside

    def end(self, at: int) -> int:
        """Where in the raw text the byte before this one ends."""
        mark = bisect_left(self.seen, at)
        if mark < len(self.seen) and (mark % 2 == 0 or self.seen[mark] == at):
            return self.lies[mark]
        return self.lies[mark - 1] + at - self.seen[mark - 1]


def _everywhere(needle: bytes, text: bytes) -> Iterator[int]:
    at = text.find(needle)
    while at >= 0:
        yield at
        at = text.find(needle, at + 1)


@lru_cache(maxsize=4096)
def _meaning(special: bytes) -> bytes:
    """The bytes that an escape stands for; none for a line break, however written."""
    if special[:1] == b"%":
        means = bytes([int(special[1:], 16)])
    else:  # Python knows the same ones as JSON, but for one
        text = special.replace(rb"\/", b"/").decode("unicode_escape")
        means = text.encode("utf-8", "surrogatepass")
    return means.strip(_BREAKS)


def _forms(secret: bytes) -> Iterator[tuple[bytes, bool]]:
    """What to look for, and whether the last character of its base64 is shared."""
    if len(secret) < SHORTEST:
        return
    yield secret, False
    yield secret.translate(None, _BREAKS), False
    yield _in_pairs(secret).translate(None, _BREAKS), False
    for written in _written(secret):  # what stands before may hide its first escape
        yield written, False
    for before in range(3):  # so many bytes are encoded together with its first
        whole = binascii.b2a_base64(bytes(before) + secret, newline=False)
        bits = 8 * (before + len(secret))
        alone = whole[-(-8 * before // 6) : bits // 6]
        for written in (alone, *_in_url(alone)):
            yield written, bits % 6 != 0
        yield alone.translate(_URL_SAFE), bits % 6 != 0


def _in_pairs(secret: bytes) -> bytes:
    """As JSON's escapes say it: two of them for a character beyond U+FFFF."""
    text = secret.decode("utf-8", "surrogateescape")
    if text.isascii():
        return secret
    units = text.encode("utf-16-be", "surrogatepass")
    pairs = (chr(a << 8 | b) for a, b in zip(units[::2], units[1::2], strict=True))
    return "".join(pairs).encode("utf-8", "surrogatepass")


def _in_url(text: bytes) -> Iterator[bytes]:
    for kept in (rb"[^\w.~-]", rb"[^\w.~/-]"):
        for digits in (b"%%%02X", b"%%%02x"):
            yield re.sub(kept, lambda found, d=digits: d % found[0][0], text)


def _written(secret: bytes) -> Iterator[bytes]:
    """As URLs and JSON usually have it."""
    yield from _in_url(secret)
    in_json = orjson.dumps(secret.decode("utf-8", "replace"))[1:-1].decode()
    in_ascii = re.sub(r"[^\x00-\x7f]", _in_hex, in_json)
    for text in (in_json, in_ascii):
        yield text.encode()
        yield text.replace("/", "\\/").encode()


def _in_hex(character: "re.Match[str]") -> str:
    """`\\u00e9` for an e with an accent."""
    return re.sub("....", r"\\u\g<0>", character[0].encode("utf-16-be").hex())
