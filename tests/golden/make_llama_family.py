"""Writes llama_family.npz: logits of `transformers` on torch for the small models of tests/models/test_llama_golden.py.

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
from tests.models.test_llama_golden import GOLDEN, TOKENS, VARIANTS  # noqa: E402

found = {}
for name, fields in VARIANTS.items():
  with tempfile.TemporaryDirectory() as folder:
    directory = hub_directories.write_llama(Path(folder), **fields)
    model = transformers.AutoModelForCausalLM.from_pretrained(
      directory, dtype=torch.float32, attn_implementation='eager'
    )
    with torch.no_grad():
      found[name] = model.eval()(torch.tensor(TOKENS)).logits.numpy()
np.savez_compressed(GOLDEN, **found)
print(GOLDEN, GOLDEN.stat().st_size, {name: float(value.std()) for name, value in found.items()})
