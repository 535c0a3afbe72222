import types

import numpy as np

from crosstrainer_jax.retrieval.material import Material, PaddedFeatures, library_train


def test_features_of_both_have_one_shape():
  learners = [np.full((3, 4, 5), n, np.float16) for n in range(2)]
  library = [np.full((1, 2, 5), 10 + n, np.float16) for n in range(3)]
  video = PaddedFeatures((learners, library), (0, 2), (3, 4))
  assert [video(n)['features'].shape for n in range(5)] == [(3, 4, 5)] * 5
  assert [int(video(n)['features'][0, 0, 0]) for n in range(5)] == [0, 1, 10, 11, 12]
  assert not video(2)['features'][1:].any()
  assert not video(2)['features'][0, 2:].any()


def test_of_the_library_what_is_not_tested_trains():
  setting = types.SimpleNamespace(clips=list(range(9)))
  assert library_train(Material(setting, 4, [0], [5, 7])) == [4, 6, 8]
