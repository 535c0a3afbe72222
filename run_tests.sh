#!/usr/bin/env bash
# Runs the tests; makes the environment first, the same .venv that launch_tpu.sh uses. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$root/environment.sh"

help() {
  cat <<'TEXT'
usage: ./run_tests.sh [--parity] [--slow] [pytest's own arguments]

  ./run_tests.sh                                 every test but the drills and the comparisons with PyTorch
  ./run_tests.sh tests/models -k decoder         some of them: what pytest takes
  ./run_tests.sh --parity                        installs PyTorch too, and compares with it
  ./run_tests.sh --slow                          the drills, minutes each; writes the result to docs/drills.md
  ./run_tests.sh tests/test_settings.py --update-goldens    rewrites the golden dumps of the configs

Of PyTorch the CPU build is enough:  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ./run_tests.sh --parity
TEXT
}

extras=test
arguments=()
for argument in "$@"; do
  case $argument in
    -h | --help)
      help
      exit
      ;;
    --parity)
      extras=test,parity
      arguments+=(-m 'not slow')
      ;;
    --slow) arguments+=(-m slow "--record=$root/docs/drills.md" -v) ;;
    *) arguments+=("$argument") ;;
  esac
done
ensure_environment "$extras"
cd "$root"
exec "$venv/bin/python" -m pytest "${arguments[@]}"
