"""What a callable returned: an outcome, if JSON can hold it."""

import math

import msgspec
import orjson

from farm.result import Error, Outcome
from farm.states import Why

_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
MOST = 64 << 20  #: bytes of it; half of what is read of a result (`disk.MOST`)
_TOO_LARGE = "A result holds 64 MiB of it: write it into a file, and return its path"
_DEEPEST = 200  # levels; orjson itself stops at 254


def plain_text(text: str) -> str:
    """Text that JSON can hold: a lone surrogate becomes \\udc80."""
    return text.encode("utf-8", "backslashreplace").decode()


def judged(value: object) -> Outcome:
    """Succeeded, if JSON can hold the value; else failed, saying what and where."""
    try:
        raw = orjson.dumps(value, _as_its_base, _STRICT)
    except TypeError:
        if fault := fault_in(value):
            return _bad_value(fault)
        # Nothing is wrong: then a key is of a class derived from str.
        try:
            raw = orjson.dumps(value, _as_its_base, _STRICT | orjson.OPT_NON_STR_KEYS)
        except TypeError as error:
            return _bad_value(str(error))
    if len(raw) > MOST:
        return _bad_value(f"value has {len(raw) >> 20} MiB. {_TOO_LARGE}")
    # orjson writes NaN and infinity as null: look closer only if there is a null.
    if b"null" in raw and value is not None and (fault := fault_in(value)):
        return _bad_value(fault)
    return Outcome(Why.SUCCEEDED, value=None if value is None else msgspec.Raw(raw))


def _as_its_base(value: object) -> object:
    """For orjson, which asks only what it does not know: a NumPy float64, a namedtuple.

    The methods are those of the base: a derived class may have broken ones.
    """
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, tuple):
        return list(tuple.__iter__(value))
    raise TypeError


def _bad_value(fault: str) -> Outcome:
    message = f"JSON cannot hold what it returned: {fault}"
    return Outcome(Why.FAILED, error=Error("value", message, type="TypeError"))


def fault_in(value: object, where: str = "value", depth: int = 0) -> str | None:
    """What JSON cannot hold in a value, and where: `value["x"][3] is a set`."""
    if depth > _DEEPEST:
        return f"{where[:60]}... is nested more than {_DEEPEST} deep"
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                return f"{where} has a key that is {_a(key)}, no string"
            if fault := fault_in(inner, f'{where}["{key}"]', depth + 1):
                return fault
        return None
    if isinstance(value, list | tuple):
        faults = (fault_in(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value))
        return next((fault for fault in faults if fault), None)
    return _leaf_fault(value, where)


def _leaf_fault(value: object, where: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} is {value}"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return f"{where} is an integer of more than 64 bits"
    if isinstance(value, str):
        return (
            None if plain_text(value) == value else f"{where} is no valid Unicode text"
        )
    if value is None or isinstance(value, bool | int | float):
        return None
    return f"{where} is {_a(value)}"


def _a(value: object) -> str:
    name = type(value).__qualname__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
