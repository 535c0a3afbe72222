#!/usr/bin/env bash
# Trains and evaluates what a config describes, on a TPU, a GPU or a CPU, here or on a pod; makes its environment first. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$root/environment.sh"

list_configs() {
  local file
  echo 'Configs:'
  for file in "$root"/configs/*.py; do
    # a config is a file with get_config; its first line says what it trains
    grep -q '^def get_config' "$file" || continue
    printf '  configs/%-22s %s\n' "$(basename "$file")" "$(sed -n '1s/^"""//;1s/"""$//;1p' "$file")"
  done
}

help() {
  cat <<'TEXT'
usage: ./launch_tpu.sh CONFIG [--config.KEY=VALUE …] [--workdir=FOLDER] [--data_dir=FOLDER] [--dry-run]

Makes the environment .venv (Python 3.11 or newer is all that must be there), installs the package for the TPU, the
NVIDIA GPU or the CPU of this machine, and then runs  python -m crosstrainer_jax.train --config CONFIG …  in it:
prepare data, discover attributes, train, evaluate, print the table and where everything lies.
Run again, it resumes where it stopped, or says that it is done. Nothing is installed twice.

  ./launch_tpu.sh configs/cross_sport.py                        the main job
  ./launch_tpu.sh configs/cross_sport.py:smoke                  the same code in two minutes
  ./launch_tpu.sh configs/cross_sport.py:held_out=soccer        another sport held out: an argument of the config
  ./launch_tpu.sh configs/cross_sport.py:held_out=soccer,smoke  several arguments
  ./launch_tpu.sh configs/cross_sport.py --config.seed=1        any value of the config, checked by name and type
  ./launch_tpu.sh configs/cross_sport.py --dry-run              says what would be done, and does nothing

  --help       this text
  --dry-run    prints the plan: what would be installed, and every stage with its size
  --workdir    where the run lies; default ./runs/<config name and argument>
  --data_dir   where prepared datasets lie; default ./runs/datasets

On a TPU pod, from any machine with gcloud:

  ./launch_tpu.sh CONFIG --tpu NAME --zone ZONE --project PROJECT [--type v5litepod-16] [--spot] --workdir=gs://BUCKET/FOLDER

finds the pod, or asks for one of that type and waits; copies this checkout to all of its workers, installs there, starts
the same run so that it outlives the connection, and shows what worker 0 prints. Preempted, the pod is asked for again
and the run resumes. In the end what was asked for is deleted. The same command again follows the run, or resumes it.

  --type       the accelerator type to ask for where there is no TPU of that name
  --spot       a spot TPU: cheap, and can be preempted at any time
  --keep       the TPU stays in the end
  --retries    how often it is asked for again when it was lost; default 20
  --runtime    the TPU's software version; default: the one that goes with its type
  --dry-run    prints every command of gcloud, and runs none

POD_CREATE_FLAGS='--network=…' adds flags of gcloud to the request. docs/operations.md says what to do when something fails.

PYTHON=/path/to/python3 chooses the interpreter, CROSSTRAINER_EXTRA=cpu|cuda|cuda13|tpu overrides the detection.

TEXT
  list_configs
}

# A config is looked for as given, then in the checkout, so that the script works from any folder.
config_exists() {
  local file=${1%%:*}
  [ -f "$file" ] || [ -f "$root/$file" ] || [ -f "$root/configs/$file" ]
}

# Given --tpu, the run is not for this machine: pods/ takes over. gcloud is all it needs, and a Python.
for argument in "$@"; do
  case $argument in
    -h | --help | --helpfull) break ;;
    --tpu | --tpu=*)
      python=$(find_python) || exit
      # not by PYTHONPATH, which gcloud, a Python program too, would inherit
      exec "$python" -c 'import sys; sys.path.insert(0, sys.argv.pop(1)); from pods import launch; sys.exit(launch.main(sys.argv[1:]))' \
        "$root" "$@"
      ;;
  esac
done

config=
dry_run=
arguments=()
for argument in "$@"; do
  case $argument in
    -h | --help | --helpfull)
      help
      exit
      ;;
    --dry-run | --dry_run) dry_run=1 ;;
    --config=*) config=${argument#--config=} ;;
    -*) arguments+=("$argument") ;;
    *)
      [ -z "$config" ] || fail "Two configs were given, $config and $argument; flags are written --name=value" 2
      config=$argument
      ;;
  esac
done
if [ -z "$config" ]; then
  help >&2
  fail $'\nNo config was given.' 2
fi
config_exists "$config" || fail "There is no config ${config%%:*}.
$(list_configs)" 2

extra=$(accelerator)
case $extra in
  tpu) echo 'Machine: a TPU' ;;
  cuda*) echo 'Machine: an NVIDIA GPU' ;;
  *) echo "Machine: $(getconf _NPROCESSORS_ONLN) CPU cores, no TPU and no NVIDIA GPU seen" ;;
esac

if [ -n "$dry_run" ] && ! environment_ready "$extra"; then
  if [ -x "$venv/bin/python" ]; then
    echo "Would complete the environment $venv${extra:+ with [$extra]}, or make it anew if it was left half-made"
  else
    python=$(find_python)
    echo "Would make the environment $venv with $("$python" --version) ($python)"
    echo "Would install the package${extra:+ with [$extra]} into it: about 1.6 GB on a CPU, a minute or more"
  fi
  echo "Would run  python -m crosstrainer_jax.train --config $config${arguments[*]:+ ${arguments[*]}}"
  echo 'With the environment in place, --dry-run prints the plan of the run itself.'
  exit
fi
ensure_environment "$extra"

# Libraries below announce themselves at length; what matters is printed by the run.
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2} TPU_MIN_LOG_LEVEL=${TPU_MIN_LOG_LEVEL:-2}
export GRPC_VERBOSITY=${GRPC_VERBOSITY:-ERROR} GLOG_minloglevel=${GLOG_minloglevel:-2}
export TRANSFORMERS_NO_ADVISORY_WARNINGS=1 PYTHONUNBUFFERED=1
exec "$venv/bin/python" -m crosstrainer_jax.train --config="$config" "${arguments[@]}" ${dry_run:+--dry-run}
