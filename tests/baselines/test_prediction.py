"""Answers carry the identity of their clip."""

from crosstrainer_jax.baselines.prediction import Prediction


def test_an_answer_keeps_the_clips_identity_and_nothing_of_its_truth(world):
  reference = world(1, 0)[0][0]
  assert reference.answer(['x'], 'say', 2, {'x': 0.5}) == Prediction(
    reference.clip_id, reference.take, 'soccer', 'kick', ['x'], 'say', 2, {'x': 0.5}
  )
  assert reference.answer() == Prediction(reference.clip_id, reference.take, 'soccer', 'kick')
