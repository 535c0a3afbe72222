"""What a decoder cannot be."""

import dataclasses

import pytest

from crosstrainer_jax.models.decoder_config import REMAT_POLICIES, DecoderConfig


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('num_kv_heads', 3), ('head_dim', 5), ('vocab_size', 0), ('dropout', 1.0), ('remat', 'some'), ('max_position', 0),
    ('quantize', 'int3'), ('attention', 'quick'), ('mrope_section', (1, 2)), ('mrope_section', (4, 6, 7)),
  ],
)  # fmt: skip
def test_impossible_configs_are_refused_by_name(field: str, value: object) -> None:
  with pytest.raises(ValueError, match=field):
    DecoderConfig(**{'vocab_size': 96, field: value})


def test_every_policy_is_accepted() -> None:
  for remat in REMAT_POLICIES:
    assert dataclasses.replace(DecoderConfig(96), remat=remat).remat == remat
