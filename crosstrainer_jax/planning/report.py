"""A plan as text for the terminal and as data for programs."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from crosstrainer_jax.planning import calibration, estimate
from crosstrainer_jax.planning.analytic import SHARE_OF_PEAK
from crosstrainer_jax.planning.costs import COLLECTIVES, Collective, gathers_of_sequences
from crosstrainer_jax.planning.epochs import Cost
from crosstrainer_jax.planning.machines import GIB
from crosstrainer_jax.planning.plan import Built, Part, Plan

WIDTH = 120


def text(plan: Plan, title: str, sources: dict[str, str], stages: Sequence[Cost] = ()) -> str:
  """Some forty lines.

  Args:
    title: names the config.
    sources: where sizes and lengths are from, by what they are of.
    stages: cost of a whole run.
  """
  lines = [*_head(plan, title, sources), *_programs(plan), *_advice(plan), *_stages(stages), *_method(plan)]
  return '\n'.join(part for line in lines for part in _wrapped(line))


def _wrapped(line: str) -> list[str]:
  """Long lines go on under their text; settings are left whole, to be copied."""
  if len(line) <= WIDTH or '; try --config' in line or line.startswith('the fastest'):
    return [line]
  start = re.match(r'\s*(\S+\s{2,})?', line)
  indent = ' ' * (start.end() if start else 0)
  return textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _head(plan: Plan, title: str, sources: dict[str, str]) -> Iterator[str]:
  machine, workload, clip = plan.machine, plan.workload, plan.workload.clip
  mesh = ' × '.join(f'{name} {size}' for name, size in plan.mesh.items())
  yield f'{title} on {machine.name}: {machine.chips} chips of {machine.chip.memory / GIB:.2f} GiB, mesh {mesh}'
  yield 'Estimate: nothing was run.'
  yield ''
  counts = ', '.join(f'{name} {count / 1e6:,.1f} M' for name, count in plan.parameters.items() if count)
  yield f'  model      {counts} parameters'
  for name, source in sources.items():
    yield f'  {name:<10} {source}'
  of_each = f' × {clip.each}' if clip.each > 1 else ''
  yield (
    f'  clip       {clip.views} views × {clip.seconds} s{of_each} = {clip.video_tokens} video tokens, '
    f'{clip.prompt_tokens} of prompt, {clip.target_tokens} of target: {clip.tokens}'
  )
  yield f'             {clip.source}'
  shape = workload.shape
  parts = f'{workload.shards} parts' + (f' and {workload.accumulate} turns' if workload.accumulate > 1 else '')
  yield (
    f'  update     {workload.clips:,} clips in {shape.rows:,} rows of {shape.tokens:,} tokens, over {parts} '
    f'{workload.rows_at_once} each; {workload.real_tokens:,} real tokens, {workload.fill:.0%} of all'
  )
  if plan.warning:
    yield f'  warning    {plan.warning}'


def _programs(plan: Plan) -> Iterator[str]:
  for built in filter(None, (plan.train, plan.generation)):
    yield ''
    yield from _built(built, plan)


def _built(built: Built, plan: Plan) -> Iterator[str]:
  verdict = 'fits' if built.fits else f'does not fit, short by {built.short / GIB:.2f} GiB a chip'
  how = 'by formulas'
  if built.compiled is not None:
    how = f'compiled {"quickly " if built.compiled.quick else ""}in {built.compiled.seconds:.0f} s'
  yield f'{built.name}: {verdict} ({built.needed / GIB:.2f} of {built.available / GIB:.2f} GiB; {how})'
  for name, size in sorted(built.kinds.items(), key=lambda item: -item[1]):
    if abs(size) >= 0.005 * GIB:
      yield f'  {size / GIB:8.2f} GiB  {name}'
  if built is plan.train and built.compiled is not None:
    yield f'  {plan.by_formula.total / GIB:8.2f} GiB  in all by formulas, for comparison'
  for part in built.parts:
    yield from _part(part, built, plan)
  if len(built.parts) == 2:
    prefill, step = (part.estimate.seconds for part in built.parts)
    seconds = prefill + (built.tokens - 1) * step
    yield (
      f'  {built.batch} clips with {built.tokens} tokens written for each: {_seconds(seconds)}, '
      f'{built.batch / seconds:,.1f} clips/s'
    )


def _part(part: Part, built: Built, plan: Plan) -> Iterator[str]:
  timed = part.estimate
  is_train = built is plan.train
  yield f'  {part.name}: {_seconds(timed.seconds)}, bound by {timed.bound}'
  yield f'    products   {_seconds(timed.products)} at the peak for {part.costs.flops / 1e12:,.2f} TFLOP a chip'
  if part.costs.bytes:
    yield f'    memory     {_seconds(timed.memory)} for {part.costs.bytes / 1e9:,.1f} GB a chip'
  if timed.cycles:
    inside = f', {_seconds(timed.kernels)} of it in kernels by their FLOPs' if timed.kernels else ''
    yield f"    cycles     {_seconds(timed.cycles)} by the compiler's own estimates{inside}"
  yield f'    exchange   {_seconds(timed.exchange)} if nothing hid it'
  for kind in COLLECTIVES:
    members = [c for c in part.costs.collectives if c.kind == kind]
    if members:
      yield f'               {_collectives(kind, members)}'
  if is_train:
    for gather in gathered_rows(plan):
      what = f'all-gather {list(gather.dims)} of {gather.op_name}'
      yield f'    warning    every chip gets the rows of all chips, and computes the same: {what}'
    flops, workload = plan.flops, plan.workload
    real = workload.real_tokens
    formulas = f'{flops.computed / real / 1e9:,.1f} G computed by formulas'
    yield f'    FLOPs      {flops.per_token / 1e9:,.1f} G a real token are needed, {formulas}'
    if built.compiled is not None:
      compiled = part.costs.flops * plan.machine.chips / real
      times = f'{compiled / flops.per_token:.2f} × what is needed'
      yield f'               {compiled / 1e9:,.1f} G in the compiled program, {times}'
      yield f"               XLA's own count, with every loop once: {built.compiled.xla_flops / 1e12:,.2f} TFLOP a chip"
    yield (
      f'    rate       {workload.clips / timed.seconds:,.1f} clips/s, {real / timed.seconds:,.0f} real tokens/s, '
      f'{real / timed.seconds / plan.machine.chips:,.0f} a chip'
    )


def gathered_rows(plan: Plan) -> list[Collective]:
  """Gathers of whole rows in the train step, which mean that chips compute the same rows."""
  shape = plan.workload.shape
  return [c for part in plan.train.parts for c in gathers_of_sequences(part.costs, shape.rows, shape.tokens)]


def _collectives(kind: str, members: Sequence[Collective]) -> str:
  times, received = sum(c.times for c in members), sum(c.received for c in members)
  largest = max(members, key=lambda c: c.bytes)
  groups = ', '.join(str(group) for group in sorted({c.group for c in members}))
  return (
    f'{kind}: {times:,.0f} over {groups} chips, {received / 1e9:,.2f} GB to each; '
    f'the largest {largest.bytes / 1e6:,.1f} MB {list(largest.dims)}'
  )


def _advice(plan: Plan) -> Iterator[str]:
  short = f'short by {plan.train.short / GIB:.2f} GiB' if plan.train.short else 'the train step does not fit'
  if plan.proposal is None:
    if not plan.train.fits:
      yield ''
      yield f'{short}; ' + (
        f'no change of turns, clips, rematerialisation and mesh fits ({plan.tried} were tried): take a larger machine'
        if plan.searched
        else 'look for a change that fits with --search=auto, or take a larger machine'
      )
    return
  proposal = plan.proposal
  seconds, clips = proposal.train.parts[0].estimate.seconds, proposal.candidate.clips
  yield ''
  start = 'the fastest that was found:' if plan.train.fits else f'{short}; try'
  yield f'{start} {" ".join(proposal.settings) or "nothing else than the config itself"}'
  yield (
    f'  {proposal.train.needed / GIB:.2f} of {proposal.train.available / GIB:.2f} GiB, {_seconds(seconds)} an update, '
    f'{clips / seconds:,.1f} clips/s ({plan.tried} tried)'
  )
  if clips != plan.workload.clips:
    yield f'  {clips} clips an update in place of {plan.workload.clips} are another training'


def _stages(stages: Sequence[Cost]) -> Iterator[str]:
  if not stages:
    return
  yield ''
  yield 'a whole run:'
  for cost in stages:
    minutes = f'{cost.seconds / 60:,.1f} min, {cost.chip_minutes:,.0f} chip-minutes'
    yield f'  {cost.stage:<10} {cost.updates:,} updates, {minutes}'
  yield f'  in all     {sum(cost.chip_minutes for cost in stages):,.0f} chip-minutes, without evaluation'


def _method(plan: Plan) -> Iterator[str]:
  yield ''
  exchange = f'exchange at the published bandwidth of the links, {estimate.LATENCY * 1e6:.0f} µs each'
  compiled = plan.train.compiled
  if compiled is not None and plan.machine.chip.is_tpu and not compiled.quick:
    yield (
      "Method: the compiler's cycles over the clock, or exchange where that is longer, and "
      f'{estimate.UNHIDDEN:.0%} of the shorter; {exchange}; times {calibration.CONSTANT:.2f}.'
    )
    yield calibration.SUMMARY
    return
  how = 'formulas, no compiler' if compiled is None else 'counts of the compiled program, which nothing ran'
  if compiled is not None and compiled.quick:
    yield (
      'Compiled quickly: exchange and products are those of a run, memory and bytes are about right, and the compiler '
      'gives no cycles that hold.'
    )
  yield (
    f'Method: {how}; matrix products at {SHARE_OF_PEAK:.0%} of the published peak, or bytes at the published bandwidth '
    f'where that takes longer; {exchange}. Not calibrated.'
  )


def _seconds(value: float) -> str:
  return f'{value:,.2f} s' if value >= 1 else f'{value * 1e3:,.1f} ms' if value >= 1e-4 else f'{value * 1e6:,.1f} µs'


def data(plan: Plan, title: str, sources: dict[str, str], stages: Sequence[Cost] = ()) -> dict[str, Any]:
  """The same as JSON takes it: bytes, seconds, FLOPs."""
  workload = plan.workload
  return {
    'config': title,
    'machine': {'name': plan.machine.name, 'chips': plan.machine.chips, 'memory': plan.machine.chip.memory},
    'mesh': plan.mesh,
    'parameters': plan.parameters,
    'sources': sources | {'clip': workload.clip.source},
    'update': {
      'clips': workload.clips,
      'rows': workload.shape.rows,
      'row_tokens': workload.shape.tokens,
      'full_rows': workload.full_rows,
      'rows_at_once': workload.rows_at_once,
      'real_tokens': workload.real_tokens,
      'fill': workload.fill,
      'warning': plan.warning,
    },
    'flops': {
      'per_real_token': plan.flops.per_token,
      'useful': plan.flops.useful,
      'computed_by_formula': plan.flops.computed,
    },
    'memory_by_formula': plan.by_formula.kinds,
    'train_step': _built_data(plan.train),
    'gathered_rows': [_collective_data(c) for c in gathered_rows(plan)],
    'generation': None if plan.generation is None else _built_data(plan.generation),
    'proposal': None
    if plan.proposal is None
    else {'settings': plan.proposal.settings, 'train_step': _built_data(plan.proposal.train)},
    'stages': [
      {'stage': c.stage, 'updates': c.updates, 'seconds': c.seconds, 'chip_minutes': c.chip_minutes} for c in stages
    ],
    'calibration': {'constant': calibration.CONSTANT, 'summary': calibration.SUMMARY},
  }


def _built_data(built: Built) -> dict[str, Any]:
  return {
    'fits': built.fits,
    'needed': built.needed,
    'available': built.available,
    'short': built.short,
    'kinds': built.kinds,
    'compiled': built.compiled is not None,
    'quick': built.compiled is not None and built.compiled.quick,
    'batch': built.batch,
    'tokens': built.tokens,
    'compile_seconds': None if built.compiled is None else built.compiled.seconds,
    'xla_flops': None if built.compiled is None else built.compiled.xla_flops,
    'parts': [
      {
        'name': part.name,
        'flops': part.costs.flops,
        'bytes': part.costs.bytes,
        'cycles': part.costs.cycles,
        'seconds': part.estimate.seconds,
        'raw_seconds': part.estimate.raw,
        'roofline_seconds': part.estimate.roofline,
        'cycles_seconds': part.estimate.cycles,
        'exchange_seconds': part.estimate.exchange,
        'bound': part.estimate.bound,
        'kernels': dict(part.costs.kernels),
        'collectives': [_collective_data(c) for c in part.costs.collectives],
      }
      for part in built.parts
    ],
  }


def _collective_data(c: Collective) -> dict[str, Any]:
  return {'kind': c.kind, 'bytes': c.bytes, 'group': c.group, 'times': c.times, 'dims': list(c.dims), 'of': c.op_name}
