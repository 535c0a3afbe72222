"""Both passes of a model that `python -m crosstrainer_jax.export` wrote, with torch and transformers alone.

    python assess_with_torch.py FOLDER clips.safetensors

Clips are features float16[N, V, S, D] of the f_v that encoder.json names, valid bool[N, V, S], and sports: a .npz file,
or .safetensors with the sports as JSON in its header. Answers are compared with the expected.json beside the clips.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import gelu, linear
from transformers import AutoModelForCausalLM, AutoTokenizer


class Coach:
  """f_m, L and f_p of an exported model, and the words around them."""

  def __init__(self, folder: Path, device: str = 'cuda' if torch.cuda.is_available() else 'cpu'):
    self.facts = json.loads((folder / 'prompts.json').read_text(encoding='utf-8'))
    self.dtype, self.device = getattr(torch, self.facts['dtype']), device
    self.words = AutoTokenizer.from_pretrained(folder / 'language_model')
    self.model = AutoModelForCausalLM.from_pretrained(folder / 'language_model', dtype=self.dtype).to(device).eval()
    self.mapper = load_file(folder / 'mapper.safetensors', device)
    self.probe = load_file(folder / 'probe.safetensors', device) if self.facts['levels'] else None

  def video(self, features: np.ndarray, valid: np.ndarray) -> torch.Tensor:
    """f_m: a token [hidden] for each second that is valid, views one after another; the others are left out."""
    x, w = torch.from_numpy(features[valid]).to(self.device, torch.float32), self.mapper
    if 'whitening.mean' in w:
      x = (x - w['whitening.mean']) @ w['whitening.matrix']
    w = {name: weights.to(self.dtype) for name, weights in w.items()}
    x = gelu(linear(x.to(self.dtype), w['fc1.weight'], w['fc1.bias']))
    return linear(x, w['fc2.weight'], w['fc2.bias'])

  def prompt(self, task: str, video: torch.Tensor, **filled_in: object) -> torch.Tensor:
    """Embeddings [tokens, hidden] of the prompt of a pass, with the video in its place."""
    texts = self.facts['prompts'][task].format(**filled_in).split(self.facts['video'])
    first, last = (self.words.encode(text, add_special_tokens=False, split_special_tokens=True) for text in texts)
    ids = ([*self.facts['before_ids'], *first], [*last, *self.facts['after_ids']])
    before, after = (self.model.get_input_embeddings()(torch.tensor(part).long().to(self.device)) for part in ids)
    return torch.cat([before, video, after])

  def write(self, prompt: torch.Tensor, limit: int) -> list[int]:
    """Token ids by greedy decoding; language_model/generation_config.json says what ends them, and what is no word."""
    return self.model.generate(inputs_embeds=prompt[None], max_new_tokens=limit)[0].tolist()

  def parse(self, text: str) -> list[str]:
    """The attributes that an answer names."""
    rules, names = self.facts['lists'], []
    for name in re.split(rules['separators'], re.sub(r'[<>]', ' ', text).lower()):
      name, before = ' '.join(name.split()), None
      while name != before:
        before, name = name, re.sub(rules['bullets'], '', name).strip(rules['edges']).removeprefix('and ')
      names += [name] if name and name not in rules['nothing'] else []
    return list(dict.fromkeys(names))

  @torch.inference_mode()
  def assess(self, features: np.ndarray, valid: np.ndarray, sport: str) -> dict[str, object]:
    """F_a, then F_t given what it wrote, and the level where there is a probe."""
    facts, video, sport = self.facts, self.video(features, valid), str(sport).strip()
    first = self.write(self.prompt('attributes', video, sport=sport, k=facts['k']), facts['max_attribute_tokens'])
    named = self.parse(self.words.decode(first, skip_special_tokens=True))
    prompt = self.prompt('feedback', video, sport=sport, attributes=', '.join(named) or facts['lists']['empty'])
    second = self.write(prompt, facts['max_feedback_tokens'])
    answer = {'attribute_tokens': first, 'attributes': named, 'feedback_tokens': second}
    answer['feedback'] = self.words.decode(second, skip_special_tokens=True).strip()
    if self.probe:
      scores = linear(video.float().mean(0), self.probe['weight'], self.probe['bias'])
      answer['level'] = facts['levels'][int(scores.argmax())]
    return answer


def read(path: Path) -> dict[str, np.ndarray]:
  if path.suffix == '.npz':
    return dict(np.load(path))
  with safe_open(path, 'numpy') as file:
    return {'sports': json.loads(file.metadata()['sports'])} | {k: file.get_tensor(k) for k in ('features', 'valid')}


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('folder', type=Path)
  parser.add_argument('clips', type=Path)
  options = parser.parse_args()
  coach, clips, wrong = Coach(options.folder), read(options.clips), []
  beside = options.clips.parent / 'expected.json'
  expected = json.loads(beside.read_text(encoding='utf-8'))['clips'] if beside.is_file() else []
  for number, clip in enumerate(zip(clips['features'], clips['valid'], clips['sports'], strict=True)):
    answer = coach.assess(*clip)
    print(f'{clip[2]}: {", ".join(answer["attributes"]) or "none"}\n  {answer["feedback"]}')
    wrong += [number] * any(expected[number][name] != answer[name] for name in answer if expected)
  print(f'{len(expected) - len(wrong)} of {len(expected)} expected answers were given; others: {wrong or "none"}')
  raise SystemExit(bool(wrong))
