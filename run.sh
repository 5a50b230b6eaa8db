#!/usr/bin/env bash
# One script for a fresh machine: bash, Python >= 3.11 with venv, and PyPI are all it needs.
#
#   bash run.sh demo [--out DIR]           install, then make data, train, test, predict, localize, report
#   bash run.sh test [pytest arguments]    install with the development tools, then lint and test
#   bash run.sh train|eval|predict NAME CONFIG [flags]     PaddleVideo's way of calling, e.g. train TSN ./configs/tsn.yaml
#
# PYTHON chooses the interpreter, CLIPWISE_VENV the environment (default .venv).
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '== %s\n' "$*" >&2; }

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  say "Python 3.11 to 3.14 with venv was not found (Debian: apt-get install python3 python3-venv). PYTHON=/path/to/python chooses one."
  exit 2
}

# install CORE|DEV: make the environment if need be and install once for each state of pyproject.toml.
install() {
  local extra="" stamp wanted
  [ "$1" = dev ] && extra="[dev]"
  venv="${CLIPWISE_VENV:-.venv}"
  if [ ! -x "$venv/bin/python" ]; then
    say "making the environment $venv"
    "$(find_python)" -m venv "$venv"
  fi
  stamp="$venv/.clipwise-$1"
  wanted="$(cat pyproject.toml constraints.txt | cksum)"
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    say "installing clipwise$extra (torch is the large part)"
    # torch first and by itself: a range in a package would otherwise pull the newest build.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' constraints.txt)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".$extra"
    echo "$wanted" > "$stamp"
  fi
}

command="${1:-help}"
[ $# -gt 0 ] && shift
case "$command" in
  demo)
    install core
    say "clipwise demo"
    "$venv/bin/clipwise" demo "$@"
    ;;
  test)
    install dev
    say "ruff"
    "$venv/bin/ruff" check .
    "$venv/bin/ruff" format --check src tests benchmarks tools
    say "mypy"
    "$venv/bin/mypy"
    say "pytest"
    # One thread a test process: more would wait for each other.
    OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "$venv/bin/python" -m pytest -n "${CLIPWISE_TEST_PROCESSES:-2}" "$@"
    ;;
  train | eval | predict)
    install core
    "$venv/bin/python" tools/paddle_style.py "$command" "$@"
    ;;
  *)
    sed -n '2,8p' "$0" | sed 's/^# \{0,1\}//'
    [ "$command" = help ] || exit 2
    ;;
esac
