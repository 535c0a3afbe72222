#!/usr/bin/env bash
# Makes the environment on one worker of a pod, as launch_tpu.sh does on a machine of one's own; worker.py calls it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/environment.sh"

extra=$(accelerator)
[ -n "$extra" ] || [ -n "${CROSSTRAINER_EXTRA:-}" ] || fail "This worker shows no TPU ($(ls -d /dev/accel* /dev/vfio/* 2>/dev/null | tr '\n' ' ')):
was the TPU VM made with the runtime version of its type? See --runtime in ./launch_tpu.sh --help"

# The images of TPU VMs bring an older Python than JAX takes. uv comes with pip and brings a newer one, into the home alone.
if ! (find_python) >/dev/null 2>&1; then
  echo 'This image has no Python of at least 3.11 with venv; bringing one with uv'
  python3 -m pip install --quiet --user --disable-pip-version-check uv ||
    fail 'pip could not install uv, to bring a newer Python: does this worker reach the network (an external IP, or Cloud NAT)?'
  uv=$(python3 -m site --user-base)/bin/uv
  "$uv" python install --quiet 3.12 || fail "uv could not bring Python 3.12. By hand: sudo apt install python3.12 python3.12-venv"
  PYTHON=$("$uv" python find 3.12)
  export PYTHON
fi
ensure_environment "$extra"
