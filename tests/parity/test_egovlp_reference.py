"""The reference itself: sizes of the published model, names, and the attention of groups written as masks."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')


def golden() -> ModuleType:
  """`tests/golden/make_egovlp.py`."""
  spec = importlib.util.spec_from_file_location('make_egovlp', Path(__file__).parents[1] / 'golden' / 'make_egovlp.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


make_egovlp = golden()
reference = make_egovlp.load_reference()
SIZES = make_egovlp.SIZES


def count(module: torch.nn.Module) -> int:
  return sum(parameter.numel() for parameter in module.parameters())


def test_published_sizes() -> None:
  with torch.device('meta'):
    model = reference.EgoVLP()
  assert count(model.vid_proj) == 768 * 4096 + 2 * (4096 * 4096 + 4096) == 36_708_352
  # A ViT-B/16 without its classifier is 85_798_656; each block has one more attention and one more norm.
  more_per_block = 768 * 4 * 768 + 4 * 768 + 2 * 768
  assert count(model.video_model) == 85_798_656 + 12 * more_per_block + 4 * 768


def test_names_and_shapes() -> None:
  found = {name: tuple(tensor.shape) for name, tensor in reference.EgoVLP(**SIZES).state_dict().items()}
  assert found == make_egovlp.shapes(SIZES)


@pytest.mark.parametrize('kind', ['time', 'space'])
def test_groups_are_masks(kind: str) -> None:
  """Attention group by group is attention over all tokens under a mask, as PyTorch's own."""
  torch.manual_seed(0)
  frames, positions, width, heads = 3, 4, 8, 2
  frame = torch.arange(frames).repeat_interleave(positions)
  position = torch.arange(positions).repeat(frames)
  key = position if kind == 'time' else frame
  groups = [(1 + torch.nonzero(key == value)[:, 0]).tolist() for value in key.unique()]
  mask = torch.ones(1 + len(key), 1 + len(key), dtype=torch.bool)
  mask[1:, 1:] = key[:, None] == key

  attention = reference.DividedAttention(width, heads)
  x = torch.randn(2, 1 + len(key), width)
  queries, keys, values = attention.qkv(x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
  mixed = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
  expected = attention.proj(mixed.transpose(1, 2).flatten(2))
  torch.testing.assert_close(attention(x, groups), expected)


def test_patches_are_numbered_frame_after_frame() -> None:
  """A changed cell of a picture changes the token of its frame and place alone; row after row, CLS first."""
  model = reference.EgoVLP(**SIZES).video_model
  pictures = torch.zeros(1, SIZES['frames'], 3, SIZES['image'], SIZES['image'])
  plain = model.embed(pictures)
  pictures[0, 2, :, 4, 9] = 1.0  # frame 2, row 1, column 2 of 4 x 4 cells
  changed = (model.embed(pictures) != plain).any(-1)[0]
  assert changed.nonzero()[:, 0].tolist() == [1 + 2 * 16 + 1 * 4 + 2]


def test_golden_file_is_what_the_reference_says() -> None:
  model = reference.EgoVLP(**SIZES)
  model.load_state_dict({name: torch.tensor(value) for name, value in make_egovlp.weights(SIZES).items()})
  with make_egovlp.np.load(make_egovlp.GOLDEN) as stored, torch.no_grad():
    feature, states = model(torch.tensor(make_egovlp.normalised(stored['frames'])))
    torch.testing.assert_close(feature, torch.tensor(stored['feature']), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
      torch.stack([state[0] for state in states]), torch.tensor(stored['states']), atol=1e-5, rtol=1e-5
    )
