"""Chips that are not there, as the compilers take them: described, so that programs can be compiled for them.

The compiler of TPUs comes with the extra `tpu`, that of GPUs with `cuda` (or `cuda13`); neither needs its machine.
"""

import importlib.util
import math
import os
from typing import Any

from crosstrainer_jax.planning.machines import Machine, text

# What XLA must know of a GPU to compile for it, from NVIDIA's tables of compute capabilities and data sheets: the
# capability, multiprocessors, lanes and threads of each, bytes of its shared memory in all and for a block, of L2, GHz.
_GPUS = {
  'rtx4090': ('NVIDIA GeForce RTX 4090', (8, 9), 128, 128, 1536, 102400, 101376, 75497472, 2.52),
  'l40s': ('NVIDIA L40S', (8, 9), 142, 128, 1536, 102400, 101376, 100663296, 2.52),
  'a100': ('NVIDIA A100-SXM4-80GB', (8, 0), 108, 64, 2048, 167936, 166912, 41943040, 1.41),
  'h100': ('NVIDIA H100 80GB HBM3', (9, 0), 132, 128, 2048, 233472, 232448, 52428800, 1.98),
}


def prepare_environment() -> None:
  """Lets compilers run on a host without their machines, or beside a run; before JAX starts its backends."""
  os.environ['JAX_PLATFORMS'] = 'cpu'
  # Without these libtpu looks for a TPU in the cloud's metadata for minutes, and refuses to load a second time.
  os.environ |= {'TPU_SKIP_MDS_QUERY': '1', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1', 'TPU_WORKER_HOSTNAMES': 'localhost'}
  os.environ.setdefault('TPU_LOG_DIR', 'disabled')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')


def has_compiler(machine: Machine) -> bool:
  """Whether the compiler of a machine is installed."""
  names = ('libtpu',) if machine.chip.is_tpu else ('jax_cuda12_plugin', 'jax_cuda13_plugin')
  return any(importlib.util.find_spec(name) is not None for name in names)


def devices(machine: Machine) -> list[Any]:
  """Descriptions of the chips of a machine, one for each, that programs can be compiled for.

  Raises:
    ValueError: the compiler is not installed, or does not know this machine.
  """
  from jax.experimental import topologies

  if not has_compiler(machine):
    kind, extra = ('TPU', 'tpu') if machine.chip.is_tpu else ('GPU', 'cuda')
    raise ValueError(
      f"the {kind} compiler is not installed: pip install 'crosstrainer_jax[{extra}]' (it runs without a {kind}), or "
      'give --analytic for an estimate from formulas alone'
    )
  platform, name, arguments = _tpu(machine) if machine.chip.is_tpu else _gpu(machine)
  try:
    found = list(topologies.get_topology_desc(platform=platform, topology_name=name, **arguments).devices)
  except Exception as error:  # whatever its plugin raises, which is not the same from release to release
    raise ValueError(f'the compiler does not know {machine.name}: {str(error).splitlines()[0]}') from error
  if len(found) != machine.chips:
    raise ValueError(
      f'the compiler lists {len(found)} devices for the {machine.chips} chips of {machine.name}: this release counts '
      'parts of chips, for which nothing here is right'
    )
  return found


def _tpu(machine: Machine) -> tuple[str, str, dict[str, Any]]:
  arguments: dict[str, Any] = {'num_slices': machine.slices} if machine.slices > 1 else {}
  if math.prod(machine.shape) == 1:
    arguments['chips_per_host_bounds'] = (1, 1, 1)
  if machine.chip.name == 'v4':
    # Else both cores of a chip are listed, each with half of its memory.
    arguments |= {'chip_config_name': 'megacore', 'chips_per_host_bounds': (2, 2, 1)}
  return 'tpu', f'{machine.chip.name}:{text(machine.shape)}', arguments


def _gpu(machine: Machine) -> tuple[str, str, dict[str, Any]]:
  chip = machine.chip
  name, capability, cores, lanes, threads, shared, shared_of_block, cache, clock = _GPUS[chip.name]
  target = f"""
    platform_name: "CUDA" device_description_str: "{name}"
    runtime_version {{ major: 12 minor: 9 }} dnn_version_info {{ major: 9 minor: 10 }}
    gpu_device_info {{
      cuda_compute_capability {{ major: {capability[0]} minor: {capability[1]} }}
      core_count: {cores} fpus_per_core: {lanes} threads_per_core_limit: {threads} clock_rate_ghz: {clock}
      threads_per_block_limit: 1024 threads_per_warp: 32
      registers_per_core_limit: 65536 registers_per_block_limit: 65536
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin: {shared_of_block}
      l2_cache_size: {cache} memory_bandwidth: {int(chip.bandwidth)} device_memory_size: {int(chip.memory)}
    }}"""
  return 'cuda', chip.name, {'topology': f'1x{machine.slices}x{machine.shape[0]}', 'target_config': target}
