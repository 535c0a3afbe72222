"""The text of a compiled program, read: layouts of TPUs, loops, fusions."""

import jax
import jax.numpy as jnp
import pytest

from crosstrainer_jax.planning import hlo

# As libtpu writes them, shortened.
# ruff: noqa: E501 - lines of a compiler
TPU = """HloModule jit_step, is_scheduled=true

%fused_computation.1 (param_0.1: bf16[2,2048,4096], param_1.2: bf16[4096,1024,1]) -> bf16[2,2048,1024] {
  %param_0.1 = bf16[2,2048,4096]{2,1,0:T(8,128)(2,1)S(1)} parameter(0)
  %param_1.2 = bf16[4096,1024,1]{1,0,2:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.3 = bf16[2,2048,1024]{2,1,0:T(8,128)(2,1)} convolution(%param_0.1, %param_1.2), window={size=1}, dim_labels=b0f_io0->b0f
}

%body (arg: (s32[], bf16[2,2048,4096])) -> (s32[], bf16[2,2048,4096]) {
  %arg = (s32[]{:T(128)}, bf16[2,2048,4096]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %x = bf16[2,2048,4096]{2,1,0:T(8,128)(2,1)} get-tuple-element(%arg), index=1
  ROOT %fusion.7 = bf16[2,2048,1024]{2,1,0:T(8,128)(2,1)S(5)} fusion(%x, %x), kind=kOutput, calls=%fused_computation.1, metadata={op_name="jit(step)/while/body/dot_general" stack_frame_id=3}, backend_config={"window_config":{"kernel_window_bounds":[],"estimated_cycles":"4711"}}
}

%condition (arg.1: (s32[], bf16[2,2048,4096])) -> pred[] {
  %arg.1 = (s32[]{:T(128)}, bf16[2,2048,4096]{2,1,0:T(8,128)(2,1)}) parameter(0)
  ROOT %less = pred[]{:T(512)} compare(%arg.1, %arg.1), direction=LT
}

ENTRY %main.9 (p: bf16[2,2048,4096]) -> (s32[], bf16[2,2048,4096]) {
  %p = bf16[2,2048,4096]{2,1,0:T(8,128)(2,1)} parameter(0), sharding={replicated}
  %start = (s32[]{:T(128)}, /*index=1*/bf16[2,2048,4096]{2,1,0:T(8,128)(2,1)}) tuple(%p, %p)
  ROOT %loop = (s32[]{:T(128)}, bf16[2,2048,4096]{2,1,0:T(8,128)(2,1)}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"32"},"known_init_step":{"init":"0","step":"1"}}
}
"""


def test_layouts_tuples_and_attributes_of_a_tpu():
  module = hlo.parse(TPU)
  assert module.entry == 'main.9'
  loop = module.computations['main.9']['loop']
  assert loop.opcode == 'while'
  assert loop.is_root
  assert [shape.dims for shape in loop.shapes] == [(), (2, 2048, 4096)]
  assert loop.bytes == 4 + 2 * 2 * 2048 * 4096
  assert module.trip_count(loop) == 32
  assert (loop.called('body'), loop.called('condition')) == (['body'], ['condition'])
  fusion = module.computations['body']['fusion.7']
  assert fusion.estimated_cycles == 4711
  assert fusion.operands == ('x', 'x')
  assert fusion.op_name == 'jit(step)/while/body/dot_general'
  # on the host
  assert fusion.shapes[0].memory == 5
  assert module.computations['fused_computation.1']['param_0.1'].shapes[0].memory == 1
  assert module.fused == {'fused_computation.1'}


def test_how_often_a_computation_runs():
  module = hlo.parse(TPU)
  assert module.runs() == {'main.9': 1, 'body': 32, 'condition': 32, 'fused_computation.1': 32}
  # as TPUs have it: a counter and its limit
  silent = TPU.replace('"known_trip_count":{"n":"32"},', '')
  counted = silent.replace('compare(%arg.1, %arg.1)', 'compare(%i, %n)').replace(
    '  ROOT %less',
    '  %n = s32[]{:T(128)} constant(24)\n  %i = s32[]{:T(128)} get-tuple-element(%arg.1), index=0\n  ROOT %less',
  )
  assert hlo.parse(counted).runs()['body'] == 24
  by_two = counted.replace(
    '  ROOT %fusion.7 =',
    '  %two = s32[] constant(2)\n  %k = s32[] add(%x, %two)\n  ROOT %t = (s32[]) tuple(%k)\n  %fusion.7 =',
  )
  assert hlo.parse(by_two).runs()['body'] == 12
  open_ended = hlo.parse(silent)
  assert open_ended.runs(unknown=0)['body'] == 0
  assert open_ended.runs(unknown=5)['fused_computation.1'] == 5


def test_a_kernel_that_describes_itself_over_several_lines():
  text = TPU.replace(
    '  ROOT %fusion.7',
    '  %kernel.1 = bf16[2,8]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", frontend_attributes={a={\n'
    '"b":"{\\"block_q\\": 256}"\n}}, metadata={op_name="jit(step)/splash/pallas_call"}\n  ROOT %fusion.7',
  )
  body = hlo.parse(text).computations['body']
  assert body['kernel.1'].op_name == 'jit(step)/splash/pallas_call'
  assert body['fusion.7'].estimated_cycles == 4711


def test_nested_loops_of_a_compiled_program():
  """XLA's own text: trip counts multiply."""

  def inner(x, _):
    return jnp.tanh(x @ x), None

  def outer(x, _):
    return jax.lax.scan(inner, x, None, length=3)[0], None

  compiled = jax.jit(lambda x: jax.lax.scan(outer, x, None, length=5)[0]).lower(jnp.ones((64, 64))).compile()
  module = hlo.parse(compiled.as_text())
  runs = module.runs()
  dots = [runs[name] for name, instruction in module.instructions() if instruction.opcode == 'dot']
  assert dots == [15]


def test_what_is_no_program_is_refused():
  with pytest.raises(ValueError, match='no computation is its ENTRY'):
    hlo.parse('hello')
