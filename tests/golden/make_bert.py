"""Writes tests/golden/bert.npz: what `transformers` makes of tiny BERT, RoBERTa and XLM-R models. Needs torch.

    python tests/golden/make_bert.py

The weights are not in the file: `weights` draws them from a seed, here and in the tests.
"""

import pathlib
from typing import Any

import numpy as np

SIZES = {
  'vocab_size': 64,
  'hidden_size': 32,
  'num_hidden_layers': 3,
  'num_attention_heads': 4,
  'intermediate_size': 48,
  'max_position_embeddings': 24,
  'layer_norm_eps': 1e-3,
}
# Content of config.json, by family.
CONFIGS: dict[str, dict[str, Any]] = {
  'bert': SIZES | {'model_type': 'bert', 'type_vocab_size': 2, 'hidden_act': 'gelu', 'pad_token_id': 0},
  'roberta': SIZES | {'model_type': 'roberta', 'type_vocab_size': 1, 'hidden_act': 'gelu', 'pad_token_id': 1},
  'xlm-roberta': SIZES | {'model_type': 'xlm-roberta', 'type_vocab_size': 1, 'hidden_act': 'relu', 'pad_token_id': 3},
}


def weights(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
  """Weights float32 by their names in a checkpoint, with a pooler.

  Drawn from default_rng(seed) in the order of this function: normal of standard deviation 0.2, around 1 for the scale
  of a norm. Small default initialisations hide errors.
  """
  rng = np.random.default_rng(seed)
  width, mlp = config['hidden_size'], config['intermediate_size']
  drawn = {}

  def normal(name: str, *shape: int, mean: float = 0.0) -> None:
    drawn[name] = (mean + 0.2 * rng.standard_normal(shape)).astype(np.float32)

  def linear(name: str, inputs: int, outputs: int) -> None:
    normal(f'{name}.weight', outputs, inputs)
    normal(f'{name}.bias', outputs)

  def norm(name: str) -> None:
    normal(f'{name}.weight', width, mean=1.0)
    normal(f'{name}.bias', width)

  normal('embeddings.word_embeddings.weight', config['vocab_size'], width)
  normal('embeddings.position_embeddings.weight', config['max_position_embeddings'], width)
  normal('embeddings.token_type_embeddings.weight', config['type_vocab_size'], width)
  norm('embeddings.LayerNorm')
  for number in range(config['num_hidden_layers']):
    layer = f'encoder.layer.{number}'
    for part in ('query', 'key', 'value'):
      linear(f'{layer}.attention.self.{part}', width, width)
    linear(f'{layer}.attention.output.dense', width, width)
    norm(f'{layer}.attention.output.LayerNorm')
    linear(f'{layer}.intermediate.dense', width, mlp)
    linear(f'{layer}.output.dense', mlp, width)
    norm(f'{layer}.output.LayerNorm')
  linear('pooler.dense', width, width)
  return drawn


def inputs(config: dict[str, Any], seed: int = 1) -> dict[str, np.ndarray]:
  """Three texts of 11, 7 and 9 tokens: tokens, mask, token_types, int32[3, 11]; the last holds the padding token."""
  rng = np.random.default_rng(seed)
  pad = config['pad_token_id']
  mask = (np.arange(11) < np.array([[11], [7], [9]])).astype(np.int32)
  tokens = rng.integers(pad + 1, config['vocab_size'], mask.shape) * mask + pad * (1 - mask)
  tokens[2, 4] = pad
  types = rng.integers(0, config['type_vocab_size'], mask.shape)
  return {'tokens': tokens.astype(np.int32), 'mask': mask, 'token_types': types.astype(np.int32)}


def main() -> None:
  import torch
  import transformers

  kept = {}
  for family, config in CONFIGS.items():
    settings = transformers.AutoConfig.for_model(**config, attn_implementation='eager')
    model = transformers.AutoModel.from_config(settings).eval()
    model.load_state_dict({name: torch.tensor(value) for name, value in weights(config).items()})
    given = inputs(config)
    with torch.no_grad():
      output = model(
        torch.tensor(given['tokens']).long(),
        attention_mask=torch.tensor(given['mask']),
        token_type_ids=torch.tensor(given['token_types']).long(),
        output_hidden_states=True,
      )
    kept |= {f'{family}/{name}': value for name, value in given.items()}
    kept[f'{family}/layers'] = torch.stack(output.hidden_states).numpy()
    kept[f'{family}/pooled'] = output.pooler_output.numpy()
  np.savez_compressed(pathlib.Path(__file__).with_name('bert.npz'), **kept)


if __name__ == '__main__':
  main()
