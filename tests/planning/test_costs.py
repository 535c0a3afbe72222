"""What a compiled program does, against programs whose work is known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from crosstrainer_jax.planning import costs, hlo
from crosstrainer_jax.training import sharding
from tests.planning.test_hlo import TPU


def compiled(function, *shapes):
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def test_products_in_a_loop_are_counted_as_often_as_they_run():
  def layer(x, w):
    return x @ w, None

  module = compiled(lambda x, w: jax.lax.scan(layer, x, w)[0], (8, 64), (7, 64, 64))
  assert costs.of_program(module, 1).flops == 7 * 2 * 8 * 64 * 64


@pytest.mark.parametrize(
  ('function', 'shapes', 'flops'),
  [
    (lambda x, w: x @ w, [(32, 64), (64, 16)], 2 * 32 * 64 * 16),
    (lambda x, y: jnp.einsum('bij,bkj->bik', x, y), [(4, 32, 8), (4, 16, 8)], 2 * 4 * 32 * 16 * 8),
    (lambda x: jnp.tanh(x), [(4, 4)], 0),
  ],
)
def test_products(function, shapes, flops):
  assert costs.of_program(compiled(function, *shapes), 1).flops == flops


def line(text, operands):
  """FLOPs of one convolution, with operands of these shapes."""
  lines = [f'  %{name} = bf16[{dims}]{{0}} parameter({n})' for n, (name, dims) in enumerate(operands.items())]
  module = hlo.parse('\n'.join(['ENTRY %e (x: bf16[1]) -> bf16[1] {', *lines, f'  {text}', '}']))
  return costs.of_program(module, 1).flops


def test_products_as_a_tpu_writes_them():
  """A batched product is a convolution over padding there: what meets padding is no work."""
  plain = '%c = bf16[2,2048,1024]{2,1,0} convolution(%x, %w), window={size=1}, dim_labels=b0f_io0->b0f'
  assert line(plain, {'x': '2,2048,4096', 'w': '4096,1024,1'}) == 2 * 2 * 2048 * 1024 * 4096
  batched = (
    '%c = bf16[4,32,16]{2,1,0} convolution(%x, %w), window={size=4 stride=3 pad=0_0 lhs_dilate=4}, '
    'dim_labels=0bf_0oi->0bf'
  )
  assert line(batched, {'x': '4,32,8', 'w': '4,16,8'}) == 2 * 4 * 32 * 16 * 8


def test_cycles_of_loops_and_not_of_what_is_fused():
  assert costs.of_program(hlo.parse(TPU), 8).cycles == 32 * 4711


def test_bytes_are_read_and_written_once():
  module = compiled(lambda x: jnp.tanh(x) * 2 + 1, (256, 1024))
  assert costs.of_program(module, 1).bytes == 2 * 4 * 256 * 1024


def test_a_slice_of_a_stack_counts_as_the_slice():
  """Else a loop over layers would read all layers in every turn."""
  module = compiled(lambda w, x: jax.lax.scan(lambda x, w: (jnp.tanh(x * w), None), x, w)[0], (50, 1000), (1000,))
  moved = costs.of_program(module, 1).bytes
  # per turn: one row of the stack, and x in and out
  assert 50 * 3 * 4000 <= moved < 50 * 10 * 4000


def test_what_lies_beside_the_cores_or_on_the_host_is_not_memory_traffic():
  module = hlo.parse(TPU)
  fusion = module.computations['body']['fusion.7']
  x = 2 * 2 * 2048 * 4096
  # its result lies on the host
  assert costs.memory_traffic(fusion, module.computations['body'], module) == x


def test_products_by_cublas():
  text = (
    '%c = (bf16[16,32]{1,0}, s8[4]{0}) custom-call(%x, %w), custom_call_target="__cublas$gemm", '
    'backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],'
    '"rhs_contracting_dimensions":["0"]}}}'
  )
  assert line(text, {'x': '16,64', 'w': '64,32'}) == 2 * 16 * 32 * 64


@pytest.mark.parametrize(
  ('attributes', 'group'),
  [
    ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", [0, 2, 4, 6]),
    ("replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0','axis_1'}", [0, 1, 2, 3, 4, 5, 6, 7]),
    ('replica_groups=[2,4]<=[4,2]T(1,0), dimensions={1}', [0, 2, 4, 6]),
    ('replica_groups=[2,4]<=[8]', [0, 1, 2, 3]),
    ('replica_groups={{0,2,4,6},{1,3,5,7}}', [0, 2, 4, 6]),
    ('channel_id=1', [0, 1, 2, 3, 4, 5, 6, 7]),
    ('channel_id=3, source_target_pairs={{0,7},{1,0},{2,1}}', [0, 7]),
  ],
)
def test_groups_in_every_form(attributes, group):
  assert costs.group_of(attributes, 8) == group


def test_exchange_of_a_compiled_program():
  """A product of split weights gathers them; its gradient is scattered or summed."""
  mesh = sharding.make_mesh((1, 8, 1))
  split = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec('fsdp')))
  rows = jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=sharding.batch_sharding(mesh))

  def loss(w, x):
    return jax.lax.with_sharding_constraint(x @ w, sharding.batch_sharding(mesh)).sum()

  program = hlo.parse(jax.jit(loss).lower(split, rows).compile().as_text())
  [gather] = [c for c in costs.of_program(program, 8).collectives if c.kind == 'all-gather']
  assert (gather.bytes, gather.group, gather.times, gather.dims) == (4 * 64 * 128, 8, 1, (64, 128))
  assert gather.received == 4 * 64 * 128 * 7 / 8


def test_starts_count_and_ends_do_not():
  lines = """ENTRY %e (x: bf16[1]) -> bf16[1] {
  %x = bf16[16,128]{1,0} parameter(0)
  %a = (bf16[16,128]{1,0}, bf16[256,128]{1,0}) all-gather-start(%x), replica_groups=[1,16]<=[16], dimensions={0}
  %b = bf16[256,128]{1,0} all-gather-done(%a)
  %r = bf16[16,128]{1,0} reduce-scatter(%b), replica_groups=[1,16]<=[16], dimensions={0}, to_apply=%add
}"""
  found = {c.kind: c.bytes for c in costs.of_program(hlo.parse(lines), 16).collectives}
  assert found == {'all-gather': 2 * 256 * 128, 'reduce-scatter': 2 * 256 * 128}


def test_an_exchange_beside_several_fusions_counts_once():
  gather = '= bf16[256,128]{1,0} all-gather(%x), replica_groups=[1,16]<=[16], dimensions={0}, channel_id='
  lines = [f'  %g{n} {gather}{channel}' for n, channel in enumerate((7, 7, 8))]
  text = '\n'.join(['ENTRY %e (x: bf16[1]) -> bf16[1] {', '  %x = bf16[16,128]{1,0} parameter(0)', *lines, '}'])
  [found] = costs.of_program(hlo.parse(text), 16).collectives
  assert found.times == 2


def test_a_part_of_a_program_is_what_another_count_lacks():
  """A loop that ends by a condition on data: with it and without it."""

  def until(x):
    return jax.lax.while_loop(lambda x: x.sum() < 100, lambda x: jnp.tanh(x @ x) + 1, x @ x)

  module = compiled(until, (32, 32))
  once, before = (costs.of_program(module, 1, unknown=n) for n in (1, 0))
  product = 2 * 32**3
  assert (before.flops, once.minus(before).flops) == (product, product)


def test_rows_that_all_chips_compute_are_found(tiny_model, tiny_update, tiny_compiled):
  """The model keeps rows apart by a constraint; without it the compiler gathers them."""
  rows, tokens = tiny_update.shape.rows, tiny_update.shape.tokens
  good = costs.of_program(hlo.parse(tiny_compiled.as_text()), 8)
  assert costs.gathers_of_sequences(good, rows, tokens) == []
  mesh = tiny_model.mesh
  x = jax.ShapeDtypeStruct((rows, tokens, 64), jnp.float32, sharding=sharding.batch_sharding(mesh))
  gathered = jax.jit(lambda x: jnp.tanh(x), out_shardings=sharding.replicated(mesh)).lower(x).compile()
  bad = costs.of_program(hlo.parse(gathered.as_text()), 8)
  assert [c.dims for c in costs.gathers_of_sequences(bad, rows, tokens)] == [(rows, tokens, 64)]
