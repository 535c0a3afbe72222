"""Shape and numerics of the decoder, and what its backward pass keeps."""

import dataclasses
from typing import Any

import jax

from crosstrainer_jax.models import attention
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.models.quantized import KINDS
from crosstrainer_jax.models.rotary import RopeScaling

# What the backward pass keeps of a layer: everything, nothing but its input, the outputs of its linear layers, or what
# attention has mixed (the one part whose recomputation grows with the square of the length).
REMAT_POLICIES: dict[str, Any] = {
  'none': None,
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'attention': jax.checkpoint_policies.save_only_these_names('mixed'),
}


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Shape and numerics of the decoder. Defaults are the tiny preset; Llama-3.1-8B differs in values only.

  Raises:
    ValueError: a field is not possible; the message names it.
  """

  vocab_size: int
  hidden_size: int = 128
  intermediate_size: int = 384
  num_layers: int = 3
  num_heads: int = 4
  num_kv_heads: int = 2
  head_dim: int = 32
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  mrope_section: tuple[int, ...] = ()  # rotary frequencies that turn with time, row and column, of Qwen2.5-VL
  rms_norm_eps: float = 1e-5
  tie_embeddings: bool = True
  qkv_bias: bool = False
  o_bias: bool = False
  mlp_bias: bool = False
  qk_norm: bool = False  # RMSNorm of every head's queries and keys, before they are rotated
  sliding_window: int = 0  # of attention; 0 for none. It is not computed: longer sequences are refused
  max_position: int = 2048  # longest sequence that is accepted, cache included
  dropout: float = 0.0  # on the output of attention and of the MLP
  dtype: str = 'float32'  # of the computation; norms, rotary angles, softmax and logits are float32 in any case
  param_dtype: str = 'float32'
  lora: LoRAConfig | None = None
  attention: str = 'auto'  # the kernel, see `attention`
  quantize: str = ''  # nf4 or int4: kernels of the blocks are held in 4 bits, and do not train
  quantize_tile: int = 64  # so many of a kernel's inputs share a scale
  remat: str = 'none'
  unroll: bool = False  # the scan over layers, written out: faster for a few small layers, slower to compile

  def __post_init__(self) -> None:
    sizes = 'vocab_size hidden_size intermediate_size num_layers num_heads num_kv_heads max_position'
    for name in sizes.split():
      if getattr(self, name) < 1:
        raise ValueError(f'decoder: {name} must be at least 1, not {getattr(self, name)}')
    if self.num_heads % self.num_kv_heads:
      raise ValueError(f'decoder: num_heads = {self.num_heads} is no multiple of num_kv_heads = {self.num_kv_heads}')
    if self.head_dim < 2 or self.head_dim % 2:
      raise ValueError(f'decoder: head_dim must be even and positive for rotary positions, not {self.head_dim}')
    if self.mrope_section and (len(self.mrope_section) != 3 or sum(self.mrope_section) != self.head_dim // 2):
      raise ValueError(
        f'decoder: mrope_section = {self.mrope_section} does not share {self.head_dim // 2} rotary frequencies out to '
        'time, rows and columns'
      )
    if not 0.0 <= self.dropout < 1.0:
      raise ValueError(f'decoder: dropout must lie in [0, 1), not {self.dropout}')
    if self.lora is not None and self.lora.adapts('lm_head'):
      raise ValueError(f'decoder: lora.targets = {self.lora.targets!r} names the head, which is never adapted')
    if self.quantize not in ('', *KINDS):
      raise ValueError(f'decoder: quantize must be empty or one of {", ".join(KINDS)}, not {self.quantize!r}')
    widths = (self.hidden_size, self.num_heads * self.head_dim, self.intermediate_size)
    tile = self.quantize_tile
    if self.quantize and (tile < 2 or tile % 2 or any(width % tile for width in widths)):
      raise ValueError(f'decoder: quantize_tile = {tile} is not even, or does not divide the widths {widths}')
    if self.attention not in attention.KERNELS:
      raise ValueError(f'decoder: attention must be one of {", ".join(attention.KERNELS)}, not {self.attention!r}')
    if self.remat not in REMAT_POLICIES:
      raise ValueError(f'decoder: remat must be one of {", ".join(REMAT_POLICIES)}, not {self.remat!r}')
