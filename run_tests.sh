#!/usr/bin/env bash
# Runs the tests; makes the environment first, the same .venv that launch_tpu.sh uses. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$root/environment.sh"

help() {
  cat <<'TEXT'
usage: ./run_tests.sh [--parity] [--slow] [--pods] [pytest's own arguments]
       ./run_tests.sh --lint

  ./run_tests.sh                                 every test but the drills and the comparisons with PyTorch
  ./run_tests.sh tests/models -k decoder         some of them: what pytest takes
  ./run_tests.sh --parity                        installs PyTorch too, and compares with it
  ./run_tests.sh --slow                          the drills, minutes each; writes the result to docs/drills.md
  ./run_tests.sh --pods                          installs the TPU compiler (690 MB), and compiles for pods, minutes each;
                                                 with -k quickly, as fit --quick does, half a minute each
  ./run_tests.sh --lint                          ruff and mypy, nothing else
  ./run_tests.sh tests/test_settings.py --update-goldens    rewrites the golden dumps of the configs

Of PyTorch the CPU build is enough:  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ./run_tests.sh --parity
TEXT
}

# ruff, and mypy over the layout as it is installed: configs/ and data/ inside the package, which mypy cannot be told otherwise.
lint() {
  local status=0 layout
  "$venv/bin/python" -m ruff check . || status=1
  "$venv/bin/python" -m ruff format --check . || status=1
  layout=$(mktemp -d)
  mkdir "$layout/crosstrainer_jax"
  ln -s "$root"/crosstrainer_jax/* "$layout/crosstrainer_jax/"
  ln -s "$root/configs" "$layout/crosstrainer_jax/configs"
  ln -s "$root/data" "$layout/crosstrainer_jax/datasets"
  ln -s "$root/pods" "$layout/pods"
  (cd "$layout" && "$venv/bin/python" -m mypy --config-file "$root/setup.cfg" --cache-dir "$root/.mypy_cache" -p crosstrainer_jax -p pods) ||
    status=1
  rm -r "$layout"
  return $status
}

extras=test
lint=
everything=1
arguments=()
for argument in "$@"; do
  case $argument in
    -h | --help)
      help
      exit
      ;;
    --parity)
      extras=test,parity
      arguments+=(-m 'not slow and not pods')
      ;;
    --pods)
      extras=test,tpu
      everything=0
      arguments+=(-m pods tests/planning/test_pods.py -v)
      ;;
    --lint) lint=1 ;;
    --slow)
      everything=0
      arguments+=(-m slow "--record=$root/docs/drills.md" -v)
      ;;
    *)
      everything=0
      arguments+=("$argument")
      ;;
  esac
done
ensure_environment "$extras"
cd "$root"
if [ -n "$lint" ]; then
  lint
  exit
fi
# All of them at once go over several processes, a file at a time, so that what a file's tests share is made once; over
# one more than there are cores, since one may wait for what another makes.
cores=$(getconf _NPROCESSORS_ONLN)
[ $everything = 0 ] || arguments+=(-n "$((cores < 4 ? cores + 1 : 4))" --dist loadfile)
exec "$venv/bin/python" -m pytest "${arguments[@]}"
