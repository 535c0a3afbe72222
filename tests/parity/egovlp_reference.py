"""EgoVLPv2's video tower (Pramanick et al. 2023, arXiv:2307.05463) in PyTorch, as plainly as it can be written.

It is what the port is compared with: attention runs group by group and head by head, and the parameters carry the
names of the published checkpoint (`video_model.*`, `vid_proj.*`). It was written apart from the port. Divided attention
over space and time is TimeSformer's (Bertasius et al. 2021), with the residual of Frozen in Time (Bain et al. 2021):
what the temporal attention yields is seen by the spatial one and not added to the stream.
"""

from collections.abc import Sequence

import torch
from torch import nn


class DividedAttention(nn.Module):
  """Attention within groups of patches; CLS is seen by all of them and sees all tokens."""

  def __init__(self, width: int, heads: int) -> None:
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(width, 3 * width)
    self.proj = nn.Linear(width, width)

  def forward(self, x: torch.Tensor, groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """float[N, L, width] of the same; `groups` holds the numbers of the tokens of every group."""
    width = x.shape[-1]
    head_dim = width // self.heads
    all_queries, all_keys, all_values = self.qkv(x).split(width, dim=-1)
    mixed = torch.zeros_like(x)
    for head in range(self.heads):
      channels = slice(head * head_dim, (head + 1) * head_dim)
      queries = all_queries[..., channels] * head_dim**-0.5
      keys, values = all_keys[..., channels], all_values[..., channels]
      mixed[:, :1, channels] = attend(queries[:, :1], keys, values)
      for group in groups:
        seen = [0, *group]
        mixed[:, group, channels] = attend(queries[:, group], keys[:, seen], values[:, seen])
    return self.proj(mixed)


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
  """float[N, Q, head_dim] of queries [N, Q, head_dim], keys and values [N, K, head_dim]."""
  return torch.softmax(queries @ keys.transpose(1, 2), dim=-1) @ values


class MLP(nn.Module):
  def __init__(self, width: int, hidden: int) -> None:
    super().__init__()
    self.fc1 = nn.Linear(width, hidden)
    self.fc2 = nn.Linear(hidden, width)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.fc2(nn.functional.gelu(self.fc1(x), approximate='none'))


class Block(nn.Module):
  """Temporal attention, spatial attention, MLP; pre-norm."""

  def __init__(self, width: int, heads: int, mlp_ratio: int, eps: float) -> None:
    super().__init__()
    self.norm1 = nn.LayerNorm(width, eps)
    self.norm2 = nn.LayerNorm(width, eps)
    self.norm3 = nn.LayerNorm(width, eps)
    self.attn = DividedAttention(width, heads)
    self.timeattn = DividedAttention(width, heads)
    self.mlp = MLP(width, mlp_ratio * width)

  def forward(self, x: torch.Tensor, over_time: Sequence[Sequence[int]], over_space: Sequence[Sequence[int]]):
    """float[N, L, width] of the same and the groups of both attentions."""
    t = self.timeattn(self.norm3(x), over_time)
    s = self.attn(self.norm1(x + t), over_space)
    x = x + s  # and not x + t + s
    return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
  def __init__(self, width: int, patch: int) -> None:
    super().__init__()
    self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)


class VideoModel(nn.Module):
  """Frames to the states of CLS and of all patches."""

  def __init__(
    self, width: int, layers: int, heads: int, patch: int, image: int, frames: int, mlp_ratio: int, eps: float
  ) -> None:
    super().__init__()
    self.frames, self.positions = frames, (image // patch) ** 2
    self.patch_embed = PatchEmbedding(width, patch)
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.positions, width))
    self.temporal_embed = nn.Parameter(torch.zeros(1, frames, width))
    self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, eps) for _ in range(layers))
    self.norm = nn.LayerNorm(width, eps)

  def token(self, frame: int, position: int) -> int:
    """Number of a patch among the tokens: CLS, then frame after frame."""
    return 1 + frame * self.positions + position

  def embed(self, pictures: torch.Tensor) -> torch.Tensor:
    """float[N, 1 + frames · positions, width] of normalised float[N, frames, 3, image, image]."""
    tokens = [self.cls_token[:, 0].expand(len(pictures), -1) + self.pos_embed[:, 0]]
    for frame in range(self.frames):
      cells = self.patch_embed.proj(pictures[:, frame])  # [N, width, rows, columns]
      for position in range(self.positions):
        row, column = divmod(position, cells.shape[-1])
        place = self.pos_embed[:, 1 + position] + self.temporal_embed[:, frame]
        tokens.append(cells[:, :, row, column] + place)
    return torch.stack(tokens, dim=1)

  def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
    """The states float[N, L, width] after the embedding and after every block; the last norm is not applied."""
    frames, positions = range(self.frames), range(self.positions)
    over_time = [[self.token(frame, position) for frame in frames] for position in positions]
    over_space = [[self.token(frame, position) for position in positions] for frame in frames]
    states = [self.embed(pictures)]
    for block in self.blocks:
      states.append(block(states[-1], over_time, over_space))
    return states


class EgoVLP(nn.Module):
  """The tower and its projection. The defaults are the sizes of the published checkpoint."""

  def __init__(
    self,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    patch: int = 16,
    image: int = 224,
    frames: int = 4,
    projection: int = 4096,
    mlp_ratio: int = 4,
    eps: float = 1e-5,
  ) -> None:
    super().__init__()
    self.video_model = VideoModel(width, layers, heads, patch, image, frames, mlp_ratio, eps)
    self.vid_proj = nn.Sequential(
      nn.Linear(width, projection, bias=False),
      nn.ReLU(),
      nn.Linear(projection, projection),
      nn.ReLU(),
      nn.Linear(projection, projection),
    )

  def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The feature float[N, projection] of normalised float[N, frames, 3, image, image], and the states on the way."""
    states = self.video_model(pictures)
    return self.vid_proj(self.video_model.norm(states[-1][:, 0])), states
