"""BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019), encoders of text; XLM-R (Conneau et al. 2020) is RoBERTa.

    x = norm(word + position + token type), then blocks x = norm(x + Attention x), x = norm(x + MLP x)

The families differ in their vocabulary and in how positions are counted. Without dropout: the encoder is frozen here.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.transformer import Transformer, TransformerConfig, block_sources, layer_norm, linear
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.convert import LINEAR, Source
from crosstrainer_jax.weights.tensors import Tensors

# model_type -> what `transformers` takes for fields that config.json leaves out, where the families differ.
DEFAULTS: dict[str, dict[str, Any]] = {
  'bert': {'vocab_size': 30522},
  'roberta': {'vocab_size': 50265, 'pad_token_id': 1},
  'xlm-roberta': {'vocab_size': 30522, 'pad_token_id': 1},
}

# Fields of config.json that change the result -> the one value that is supported, which is also the default.
ONLY: dict[str, Any] = {
  'position_embedding_type': 'absolute',
  'is_decoder': False,
  'add_cross_attention': False,
  'is_encoder_decoder': False,
  'pruned_heads': {},
  'quantization_config': None,
}

# Tensors of real checkpoints that are not needed: buffers, and a pooler where none is asked for.
IGNORED = (r'embeddings\.(position|token_type)_ids$', r'pooler\.')

# Where a checkpoint was written with a head for a task, the encoder's names begin with this …
PREFIXES = ('bert.', 'roberta.')
# … and the head's, which are not needed, with one of these.
HEADS = r'(cls|lm_head|classifier|qa_outputs)\.'


@dataclasses.dataclass(frozen=True)
class BertConfig:
  """Sizes and rules of the encoder.

  Attributes:
    vocab_size: tokens.
    position_rows: rows of the table of positions; see `max_length` for how many tokens a text may have.
    token_types: kinds of segment.
    layers, width, heads, mlp, activation, eps: of the blocks; `eps` is that of every LayerNorm.
    padding_idx: None counts positions 0, 1, 2, … (BERT). A token's id counts from padding_idx + 1 and skips that token,
      which itself stands at padding_idx (RoBERTa).
    pooler: whether there is a pooler, tanh(linear(first token)).
    dtype: of the computation; norms and softmax are float32 in any case.
    param_dtype: of the parameters.
  """

  vocab_size: int
  position_rows: int
  token_types: int
  layers: int
  width: int
  heads: int
  mlp: int
  activation: str = 'gelu'
  eps: float = 1e-12
  padding_idx: int | None = None
  pooler: bool = False
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self) -> None:
    # It refuses what does not fit.
    _ = self.transformer

  @property
  def transformer(self) -> TransformerConfig:
    """The stack of blocks."""
    return TransformerConfig(
      layers=self.layers,
      width=self.width,
      heads=self.heads,
      mlp=self.mlp,
      activation=self.activation,
      eps=self.eps,
      post_norm=True,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )

  @property
  def max_length(self) -> int:
    """The most tokens of a text, special ones included."""
    return self.position_rows - (0 if self.padding_idx is None else self.padding_idx + 1)

  @classmethod
  def from_hugging_face(
    cls, config: dict[str, Any], *, pooler: bool = False, dtype: str = 'float32', param_dtype: str = 'float32'
  ) -> 'BertConfig':
    """From the content of config.json; fields that it leaves out take the defaults of `transformers`.

    Raises:
      ValueError: another family, or a field with a value that is not supported.
    """
    family = config.get('model_type')
    if family not in DEFAULTS:
      raise ValueError(f'model_type={family!r} is no text encoder that is known here; known: {", ".join(DEFAULTS)}')
    for name, supported in ONLY.items():
      if config.get(name, supported) not in (supported, None):
        raise ValueError(f'{family}: {name}={config[name]!r} is not supported, only {supported!r}')
    fields = DEFAULTS[family] | config
    padding_idx = None
    if family != 'bert':
      padding_idx = fields['pad_token_id']
      if not isinstance(padding_idx, int) or padding_idx < 0:
        raise ValueError(
          f'{family}: pad_token_id={padding_idx!r} is not supported: positions are counted from it, it must be an id'
        )
    return cls(
      vocab_size=fields['vocab_size'],
      position_rows=fields.get('max_position_embeddings', 512),
      token_types=fields.get('type_vocab_size', 2),
      layers=fields.get('num_hidden_layers', 12),
      width=fields.get('hidden_size', 768),
      heads=fields.get('num_attention_heads', 12),
      mlp=fields.get('intermediate_size', 3072),
      activation=fields.get('hidden_act', 'gelu'),
      eps=fields.get('layer_norm_eps', 1e-12),
      padding_idx=padding_idx,
      pooler=pooler,
      dtype=dtype,
      param_dtype=param_dtype,
    )


class States(NamedTuple):
  """What the encoder makes of B texts of L tokens.

  Attributes:
    last: float[B, L, D], the states after the last block that was run.
    layers: float[1 + layers, B, L, D], those after the embeddings and after every block (free where unused).
    pooled: float[B, D], None without a pooler.
  """

  last: jax.Array
  layers: jax.Array
  pooled: jax.Array | None


class Embeddings(nnx.Module):
  """The sum of three tables, and its norm."""

  def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
    self.padding_idx = config.padding_idx

    def table(rows: int) -> nnx.Embed:
      return nnx.Embed(
        rows,
        config.width,
        dtype=jnp.dtype(config.dtype),
        param_dtype=jnp.dtype(config.param_dtype),
        # Rows are not split, as `vocab` would be: RoBERTa has 50 265 of them, which no mesh divides.
        embedding_metadata={'logical_axes': (None, 'embed')},
        rngs=rngs,
      )

    self.word = table(config.vocab_size)
    self.position = table(config.position_rows)
    self.token_type = table(config.token_types)
    self.norm = layer_norm(config.width, config.eps, config, rngs)

  def positions(self, tokens: jax.Array) -> jax.Array:
    """int32, broadcast to [B, L]: the row of each of int32[B, L] tokens in the table of positions."""
    if self.padding_idx is None:
      return jnp.arange(tokens.shape[1])[None]
    counted = (tokens != self.padding_idx).astype(jnp.int32)
    return jnp.cumsum(counted, 1) * counted + self.padding_idx

  def __call__(self, tokens: jax.Array, token_types: jax.Array) -> jax.Array:
    """float[B, L, D] of int32[B, L] each."""
    return self.norm(self.word(tokens) + self.token_type(token_types) + self.position(self.positions(tokens)))


class Bert(nnx.Module):
  """A text encoder of the BERT or RoBERTa family."""

  def __init__(self, config: BertConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    self.embeddings = Embeddings(config, rngs)
    self.transformer = Transformer(config.transformer, rngs)
    self.pooler = linear(config.width, config.width, config, rngs, ('embed', None)) if config.pooler else None

  def __call__(
    self,
    tokens: jax.Array,
    mask: jax.Array | None = None,
    token_types: jax.Array | None = None,
    *,
    layers: int | None = None,
  ) -> States:
    """Encodes texts.

    Args:
      tokens: int32[B, L]; an id outside the vocabulary makes its text NaN.
      mask: bool[B, L], False at padding, which no other token sees; None when all are real. RoBERTa counts positions by
        the tokens alone, so padding before a text must be its padding token.
      token_types: int32[B, L]; None is 0 everywhere.
      layers: how many blocks are run; None runs all. A static number.

    Raises:
      ValueError: texts longer than `config.max_length`, shapes that disagree, or more layers than there are.
    """
    c = self.config
    for name, given in (('mask', mask), ('token_types', token_types)):
      if given is not None and given.shape != tokens.shape:
        raise ValueError(f'{name} {given.shape} does not fit tokens {tokens.shape}')
    if tokens.shape[1] > c.max_length:
      raise ValueError(f'texts of {tokens.shape[1]} tokens, but the encoder takes at most {c.max_length}')
    if layers is not None and not 0 <= layers <= c.layers:
      raise ValueError(f'layers={layers}: the encoder has 0 (its embeddings) to {c.layers}')
    first = self.embeddings(tokens, jnp.zeros_like(tokens) if token_types is None else token_types)
    last, after = self._run(first, None if mask is None else mask[:, None, None, :], layers)
    pooled = None if self.pooler is None else jnp.tanh(self.pooler(last[:, 0]))
    return States(last, jnp.concatenate([first[None], after]), pooled)

  def _run(self, x: jax.Array, mask: jax.Array | None, layers: int | None) -> tuple[jax.Array, jax.Array]:
    """The first `layers` blocks: the last states, and those after each."""
    if layers == 0:
      return x, x[None][:0]
    if layers in (None, self.config.layers):
      return self.transformer(x, mask)
    graph, stacks = nnx.split(self.transformer)
    return nnx.merge(graph, jax.tree.map(lambda stack: stack[:layers], stacks))(x, mask)


def sources(config: BertConfig, old_norms: bool = False) -> dict[str, Source]:
  """Where each parameter comes from, names without the prefix of a checkpoint that has a head.

  Args:
    old_norms: the checkpoint calls a norm's scale `gamma` and its bias `beta`, as the first ones do.
  """
  layer = 'encoder.layer.{}.'
  table = {
    'embeddings/word/embedding': Source('embeddings.word_embeddings.weight'),
    'embeddings/position/embedding': Source('embeddings.position_embeddings.weight'),
    'embeddings/token_type/embedding': Source('embeddings.token_type_embeddings.weight'),
    'embeddings/norm/scale': Source('embeddings.LayerNorm.weight'),
    'embeddings/norm/bias': Source('embeddings.LayerNorm.bias'),
  }
  table |= block_sources(
    'transformer',
    {
      'attention/q_proj': layer + 'attention.self.query',
      'attention/k_proj': layer + 'attention.self.key',
      'attention/v_proj': layer + 'attention.self.value',
      'attention/out_proj': layer + 'attention.output.dense',
      'norm1': layer + 'attention.output.LayerNorm',
      'fc1': layer + 'intermediate.dense',
      'fc2': layer + 'output.dense',
      'norm2': layer + 'output.LayerNorm',
    },
  )
  if config.pooler:
    table |= {'pooler/kernel': Source('pooler.dense.weight', LINEAR), 'pooler/bias': Source('pooler.dense.bias')}
  if old_norms:
    for path, (name, axes) in table.items():
      old = name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')
      table[path] = Source(old, axes)
  return table


def load(directory: str | Path, *, pooler: bool = False, dtype: str = 'float32', param_dtype: str = 'float32') -> Bert:
  """The encoder in a folder as `save_pretrained` of Hugging Face writes it, with or without a head, which is left.

  Args:
    directory: holds config.json and the weights.
    pooler: load the pooler too. RoBERTa's checkpoints have none.
    dtype: of the computation.
    param_dtype: of the parameters.

  Raises:
    FileNotFoundError: no config.json, or no weights.
    ValueError: another family, a field that is not supported, or weights that do not fit.
  """
  directory = Path(directory)
  try:
    config = BertConfig.from_hugging_face(
      read_json(directory / 'config.json'), pooler=pooler, dtype=dtype, param_dtype=param_dtype
    )
  except ValueError as error:
    raise ValueError(f'{directory}: {error}') from error
  tensors = Tensors(directory)
  prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in tensors)), '')
  if strange := [name for name in tensors if prefix and not re.match(rf'{re.escape(prefix)}|{HEADS}', name)]:
    raise ValueError(f'{directory}: these weights are neither of the encoder nor of a head: {", ".join(strange)}')
  old_norms = f'{prefix}embeddings.LayerNorm.gamma' in tensors
  # Only shapes are made here, the numbers come from the file.
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0))), nnx.Param)
  return nnx.merge(graph, convert.load(tensors, sources(config, old_norms), abstract, IGNORED, prefix))


def read_json(path: Path) -> Any:
  """The content of a JSON file.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is broken.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path}: this file is missing; get the whole folder of the model')
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error}); get it again') from error
