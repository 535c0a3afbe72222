"""CLIP's text tower from a directory of the hub, with its tokenizer: texts in the space of its image tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from crosstrainer_jax.models import clip
from crosstrainer_jax.models.bert import read_json
from crosstrainer_jax.models.clip import ClipText, ClipTextConfig
from crosstrainer_jax.models.text_encoder import Tokens
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

MODEL_TYPES = ('clip', 'clip_text_model')


class ClipTextEncoder:
  """The tower and its tokenizer; use `load`.

  Attributes:
    max_length: the most tokens of a text; what is longer is cut.
    fingerprint: names the weights.
  """

  def __init__(self, model: ClipText, tokenizer: Any, fingerprint: str = '') -> None:
    self.config, self.fingerprint = model.config, fingerprint
    self.max_length = model.config.max_position_embeddings
    self._tokenizer = tokenizer
    self._graph, self._params = nnx.split(model)

  @classmethod
  def load(cls, directory: str | Path) -> ClipTextEncoder:
    """From a directory with the whole model or the text tower.

    Raises:
      FileNotFoundError: something is missing.
      ValueError: another model, or weights that do not fit.
    """
    directory = Path(directory)
    content = read_json(directory / 'config.json')
    config = ClipTextConfig.from_hugging_face(content)
    tensors = Tensors(directory)
    graph, abstract = nnx.split(nnx.eval_shape(lambda: ClipText(config, nnx.Rngs(0))), nnx.Param)
    params = convert.load(tensors, clip.sources(config, tensors), abstract, clip.TEXT_IGNORED)
    # takes a second to import
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    return cls(nnx.merge(graph, params), tokenizer, tensors.fingerprint())

  @property
  def model(self) -> ClipText:
    """The tower itself, for what goes on training it."""
    return nnx.merge(self._graph, self._params)

  def tokens(self, texts: Sequence[str]) -> list[Tokens]:
    """The tokens of each text, its end token among them."""
    encodings = self._tokenizer(list(texts), truncation=True, max_length=self.max_length, padding=False).encodings
    return [
      Tokens(np.array(e.ids, np.int32), np.array(e.special_tokens_mask, bool), bool(e.overflowing)) for e in encodings
    ]


def is_clip(directory: str | Path) -> bool:
  """Whether a directory holds CLIP's text tower, and no BERT."""
  path = Path(directory) / 'config.json'
  return path.is_file() and read_json(path).get('model_type') in MODEL_TYPES
