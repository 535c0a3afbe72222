"""The contact sheet is what the shipped picture shows, and small enough to ship."""

import pathlib
import sys

import numpy as np
from PIL import Image

from crosstrainer_jax.datasets.skillsim import contact_sheet

SHIPPED = pathlib.Path(contact_sheet.__file__).with_name('contact_sheet.png')


def test_the_shipped_sheet_is_of_this_world(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['contact_sheet', '--out', str(tmp_path / 'sheet.png')])
  contact_sheet.main()
  drawn, shipped = (np.asarray(Image.open(p).convert('RGB'), int) for p in (tmp_path / 'sheet.png', SHIPPED))
  assert drawn.shape == shipped.shape
  # Palettes and fonts may differ a little between versions of Pillow; another world would differ much.
  assert np.abs(drawn - shipped).mean() < 6
  assert SHIPPED.stat().st_size <= 300 * 1024
