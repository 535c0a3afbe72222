# The virtual environment in .venv: found, made, completed and repaired. Sourced by launch_tpu.sh and run_tests.sh.
# Needs `root`, the folder of the checkout. One may set PYTHON=/path/to/python3 and CROSSTRAINER_EXTRA=cpu|cuda|cuda13|tpu.

venv=$root/.venv

# Says what is wrong and how to mend it, and ends the script.
fail() {
  echo "$1" >&2
  exit "${2:-1}"
}

# Prints the first Python of at least 3.11 that can make virtual environments.
find_python() {
  local candidate without_venv=
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
    without_venv=$candidate
  done
  if [ -n "$without_venv" ]; then
    local version
    version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$without_venv is Python $version, but its venv module is missing. On Debian and Ubuntu: sudo apt install python$version-venv"
  fi
  fail "No Python 3.11 or newer was found${PYTHON:+ at PYTHON=$PYTHON}. On Debian and Ubuntu: sudo apt install python3.11 python3.11-venv
Elsewhere: https://www.python.org/downloads/ — then run this again, or name it: PYTHON=/path/to/python3 $0"
}

# Prints the extra that this machine's accelerator needs: tpu, cuda, or nothing for a CPU. Looks at devices alone, never at the network.
# $1: a folder to look under instead of /, for the tests.
accelerator() {
  local under=${1:-} device
  if [ -n "${CROSSTRAINER_EXTRA:-}" ]; then
    case $CROSSTRAINER_EXTRA in
      cpu) ;;
      cuda | cuda13 | tpu) echo "$CROSSTRAINER_EXTRA" ;;
      *) fail "CROSSTRAINER_EXTRA is '$CROSSTRAINER_EXTRA'; it is one of cpu, cuda, cuda13, tpu" 2 ;;
    esac
    return
  fi
  # v2 to v4 show /dev/accel0 …
  if compgen -G "$under/dev/accel[0-9]*" >/dev/null; then
    echo tpu
    return
  fi
  # … later chips /dev/vfio/0 …, which other devices passed through to a machine show too: a TPU's PCI number tells them apart
  if compgen -G "$under/dev/vfio/[0-9]*" >/dev/null; then
    if compgen -e | grep -q '^TPU_'; then
      echo tpu
      return
    fi
    for device in "$under"/sys/bus/pci/devices/*; do
      case "$(cat "$device/vendor" 2>/dev/null) $(cat "$device/device" 2>/dev/null)" in
        '0x1ae0 0x005e' | '0x1ae0 0x0062' | '0x1ae0 0x0063' | '0x1ae0 0x006f' | '0x1ae0 0x0076')
          echo tpu
          return
          ;;
      esac
    done
  fi
  # nvidia-smi is sometimes installed where no card is: it then fails
  if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    echo cuda
  fi
}

# The fingerprint of what is installed: the same text means that nothing needs to be done.
fingerprint() {
  echo "place $venv"
  echo "files $(cat "$root/setup.cfg" "$root/pyproject.toml" | cksum)"
  "$venv/bin/python" -c 'import sys; print("python", sys.version)'
}

# True when .venv is finished and holds the extras $1 (comma-separated, may be empty) of this very setup.cfg.
environment_ready() {
  local now stamp extra missing
  [ ! -e "$venv/unfinished" ] && now=$(fingerprint 2>/dev/null) || return 1
  for stamp in "$venv"/installed-*; do
    [ "$now" = "$(cat "$stamp" 2>/dev/null)" ] || continue
    missing=
    for extra in ${1//,/ }; do
      case ,${stamp##*/installed-}, in *",$extra,"*) ;; *) missing=$extra ;; esac
    done
    [ -n "$missing" ] || return 0
  done
  return 1
}

# Makes .venv hold the package, editable, with the extras $1; does nothing when it already does.
ensure_environment() {
  local extras=$1 python seconds log=$venv/install.log
  environment_ready "$extras" && return
  # One installation at a time; the lock goes with the process, so a kill leaves none behind.
  exec 9<"$root/setup.cfg"
  if command -v flock >/dev/null && ! flock -n 9; then
    echo "Waiting for another installation into $venv"
    flock 9
  fi
  seconds=$SECONDS
  if ! environment_ready "$extras"; then
    # A kill in the middle leaves `unfinished`: what pip had half-written cannot be trusted.
    if [ -e "$venv/unfinished" ]; then
      echo "Removing the half-made environment $venv"
      rm -rf "$venv"
    elif [ -e "$venv" ] && ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
      fail "$venv holds no working Python with pip (its interpreter may have been removed): remove the folder and run this again"
    fi
    if [ ! -e "$venv" ]; then
      python=$(find_python) || exit
      echo "Making the environment $venv with $("$python" --version) ($python)"
      mkdir "$venv"
      touch "$venv/unfinished"
      "$python" -m venv "$venv" >"$log" 2>&1 || fail "$(tail -n 15 "$log")
$python could not make a virtual environment; the log is $log"
    fi
    "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      fail "$venv holds $("$venv/bin/python" --version), this project needs 3.11 or newer: remove the folder and run this again"
    touch "$venv/unfinished"
    if compgen -G "$venv/installed-*" >/dev/null; then
      echo "Completing the environment $venv${extras:+ with [$extras]}; log in $log"
    else
      echo "Installing the package${extras:+ with [$extras]}: about 1.6 GB on a CPU, a minute or more; log in $log"
    fi
    install_quietly "$extras" "$log"
    fingerprint >"$venv/installed-${extras:-plain}"
    rm "$venv/unfinished"
    echo "Installed in $((SECONDS - seconds)) s"
  fi
  exec 9<&-
}

# Runs pip with a line now and then, so that nobody takes it for stuck; shows the end of the log when it fails. Without
# bytecode, which is half the work: Python makes it of what is imported, a small part.
install_quietly() {
  local extras=$1 log=$2 pip started=$SECONDS next=30
  "$venv/bin/python" -m pip install --no-compile --progress-bar off --disable-pip-version-check --editable "$root${extras:+[$extras]}" >"$log" 2>&1 &
  pip=$!
  # a kill of this script must not leave pip writing behind its back
  trap 'kill "$pip" 2>/dev/null' EXIT
  while kill -0 "$pip" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - started)) -ge $next ]; then
      echo "  … $((SECONDS - started)) s, $(du -sm "$venv" 2>/dev/null | cut -f1) MB"
      next=$((next + 30))
    fi
  done
  wait "$pip" || fail "$(tail -n 15 "$log")
Installation failed; the whole log is $log. Without a network, or behind a proxy, pip's settings decide where it looks: pip config list"
  trap - EXIT
}
