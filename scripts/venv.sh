# Sourced by run and test, which must work on a fresh clone with nothing but
# Python 3.11+ and pip. Gives them ROOT (this clone), VENV and `prepare`.
# VENV and PYTHON may be named from outside: a second venv, for a second Python.
# shellcheck shell=bash

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd -P)
VENV=${VENV:-$ROOT/.venv}
export PIP_DISABLE_PIP_VERSION_CHECK=1 # its advice is about a pip that is ours

# prepare NAME ARGUMENT...: `pip install ARGUMENT...`, unless this was done with
# the pyproject.toml as it is now, in a clone that lies where it lies now. The
# stamp that says so is written last: what was interrupted is done again.
prepare() (
    stamp=$VENV/installed-$1
    wanted="$ROOT $(cksum <"$ROOT/pyproject.toml")"
    exec 9>>"$VENV.lock" # closed, and so unlocked, when this subshell ends
    if command -v flock >/dev/null; then
        flock 9 # a second one at the same time waits, then finds all done
    fi
    if [[ -x $VENV/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
        exit
    fi
    if [[ ! -f $VENV/made ]] || ! is_usable "$VENV/bin/python" pip; then
        make_venv
    fi
    say "installing $1"
    "$VENV/bin/python" -m pip install --quiet "${@:2}"
    echo "$wanted" >"$stamp"
)

make_venv() {
    local python
    python=$(find_python)
    say "making ${VENV##*/} with $("$python" --version)"
    if is_usable "$python" ensurepip; then
        "$python" -m venv --clear "$VENV"
    else # as in Debian, where ensurepip is a package of its own
        "$python" -m venv --clear --without-pip "$VENV"
        "$python" -m pip --python "$VENV/bin/python" install --quiet pip
    fi
    touch "$VENV/made" # last: a half-made one is made again
}

find_python() {
    local python
    for python in ${PYTHON:+"$PYTHON"} python3.{14,13,12,11} python3; do
        if is_usable "$python" ensurepip || is_usable "$python" pip; then
            echo "$python"
            return
        fi
    done
    say "found no Python 3.11 or newer with venv and pip: install one, or name" \
        "the one to use: PYTHON=/path/to/python3 $0"
    return 1
}

# is_usable PYTHON MODULE: it runs (a version manager's shim may not), is new
# enough, and has MODULE.
is_usable() {
    "$1" -c "import sys, venv, $2; sys.exit(sys.version_info < (3, 11))" &>/dev/null
}

say() {
    echo "${0##*/}: $*" >&2
}
