"""Writes llama_family.npz: what `transformers` on torch makes of the small models of tests/models/test_llama_golden.py.

Of each: logits, the states that enter its layers and leave the last norm, and 64 tokens that it writes greedily.

python tests/golden/make_llama_family.py, from the root of the checkout
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from tests.models import hub_directories  # noqa: E402
from tests.models.test_llama_golden import GOLDEN, TOKENS, VARIANTS, WRITTEN  # noqa: E402

found = {}
for name, fields in VARIANTS.items():
  with tempfile.TemporaryDirectory() as folder:
    directory = hub_directories.write_llama(Path(folder), **fields)
    model = transformers.AutoModelForCausalLM.from_pretrained(
      directory, dtype=torch.float32, attn_implementation='eager'
    ).eval()
    model.generation_config.eos_token_id = None
    tokens = torch.tensor(TOKENS)
    with torch.no_grad():
      output = model(tokens, output_hidden_states=True)
      written = model.generate(
        tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=WRITTEN, do_sample=False, pad_token_id=0
      )[:, tokens.shape[1] :]
    assert written.shape[1] == WRITTEN
    found[f'{name}/logits'] = output.logits.numpy()
    found[f'{name}/states'] = np.stack([state.numpy() for state in output.hidden_states])
    found[f'{name}/written'] = written.numpy().astype(np.int8)
np.savez_compressed(GOLDEN, **found)
print(GOLDEN, GOLDEN.stat().st_size, {name: float(value.std()) for name, value in found.items()})
