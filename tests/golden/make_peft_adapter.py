"""Writes peft_adapter.npz: what PEFT on torch makes of the small adapter of tests/models/test_peft_golden.py.

Logits, gradients of A and B of the mean loss, and the adapter_config.json that PEFT writes. The weights are not in the
file: `draw` makes them again from a seed, here and in the tests.

python tests/golden/make_peft_adapter.py, from the root of the checkout
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from tests.models import hub_directories  # noqa: E402
from tests.models.test_llama_golden import TOKENS, VARIANTS  # noqa: E402
from tests.models.test_peft_golden import BASE, GOLDEN, draw  # noqa: E402

with tempfile.TemporaryDirectory() as folder:
  base, adapter = hub_directories.write_llama(Path(folder) / 'base', **VARIANTS[BASE]), Path(folder) / 'adapter'
  plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation='eager')
  config = peft.LoraConfig(
    r=3, lora_alpha=6, lora_dropout=0.1, target_modules=['q_proj', 'v_proj', 'down_proj'], use_rslora=True,
    task_type='CAUSAL_LM',
  )  # fmt: skip
  peft.get_peft_model(plain, config).save_pretrained(adapter)
  file = adapter / 'adapter_model.safetensors'
  save_file(draw({name: array.shape for name, array in load_file(file).items()}), file, {'format': 'pt'})
  plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation='eager')
  model = peft.PeftModel.from_pretrained(plain, adapter, is_trainable=True).eval()
  output = model(torch.tensor(TOKENS), labels=torch.tensor(TOKENS))
  output.loss.backward()
  gradients = {
    name.replace('.default', ''): weight.grad.numpy()
    for name, weight in model.named_parameters()
    if weight.grad is not None
  }
  settings = (adapter / 'adapter_config.json').read_text().replace(folder, '')
np.savez_compressed(GOLDEN, config=settings, logits=output.logits.detach().numpy(), **gradients)
print(GOLDEN, GOLDEN.stat().st_size, {name: float(np.abs(value).max()) for name, value in gradients.items()})
