"""XLA's flags for programs that are compiled for longer than they run, on a CPU."""

import importlib.metadata

# Little optimisation, and in one piece; with the older code generators of fusions, as long as XLA has them, a program
# takes a ninth of the time.
FAST = ['--xla_backend_optimization_level=0', '--xla_llvm_disable_expensive_passes=true']
FAST += ['--xla_cpu_parallel_codegen_split_count=1']
if tuple(map(int, importlib.metadata.version('jaxlib').split('.')[:2])) < (0, 11):
  FAST += ['--xla_cpu_use_fusion_emitters=false']
