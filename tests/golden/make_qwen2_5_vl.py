"""Writes tests/golden/qwen2_5_vl.npz: what `transformers` makes of the small model of tests/models/tiny_qwen.py.

Needs PyTorch.

python tests/golden/make_qwen2_5_vl.py, from the root of the checkout
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.models import tiny_qwen

PARTS = tiny_qwen.SEQUENCES['mixed']


def main() -> None:
  import torch
  import transformers

  from tests.parity.test_qwen2_5_vl_parity import theirs

  model: Any = transformers.Qwen2_5_VLForConditionalGeneration(
    transformers.Qwen2_5_VLConfig(**tiny_qwen.CONFIG, attn_implementation='eager')
  )
  shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
  weights = tiny_qwen.weights(shapes)
  model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
  model.eval()
  tokens, places = tiny_qwen.words_and_places(PARTS)
  given = theirs(PARTS, tokens)
  with torch.no_grad():
    logits = model(**given).logits.numpy()
    written = model.generate(**given, max_new_tokens=10, do_sample=False, pad_token_id=0)[0, tokens.shape[1] :].numpy()
  record = {'shapes': json.dumps(shapes), 'tokens': tokens, 'positions': places, 'logits': logits, 'written': written}
  np.savez_compressed(Path(__file__).with_name('qwen2_5_vl.npz'), **record)


if __name__ == '__main__':
  main()
