"""TFDS says nothing while a dataset is made, and speaks again afterwards."""

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from crosstrainer_jax.datasets.quiet import Quiet, quiet_tfds


def test_nothing_is_said_of_downloads(tmp_path, capsys):
  class Numbers(Quiet, tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')
    pkg_dir_path = tmp_path

    def _info(self):
      return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({'number': np.int64}))

    def _split_generators(self, dl_manager):
      return {'train': [(number, {'number': number}) for number in range(3)]}

    def _generate_examples(self):
      raise NotImplementedError

  builder = Numbers(data_dir=tmp_path / 'made', file_format='array_record')
  verbosity = logging.get_verbosity()
  with quiet_tfds():
    builder.download_and_prepare()
  assert builder.info.splits['train'].num_examples == 3
  assert logging.get_verbosity() == verbosity
  said = capsys.readouterr()
  assert (said.out, said.err) == ('', '')
