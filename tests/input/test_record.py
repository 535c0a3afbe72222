import dataclasses
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from crosstrainer_jax.input import record
from crosstrainer_jax.input.record import Clip


def full() -> Clip:
  """A clip with something in every field."""
  random = np.random.default_rng(0)
  return Clip(
    clip_id='a-1',
    dataset='tiny',
    sport='fußball',
    skill='penalty kick',
    participant='p1',
    take='p1-t1',
    views=['close', 'left'],
    frames=random.integers(0, 256, (2, 4, 6, 8, 3), np.uint8),
    frame_times=np.array([[0, 0.25, 0.5, 0.75], [0, 0.25, np.nan, np.nan]], np.float32),
    features=random.normal(size=(2, 1, 5)).astype(np.float16),
    encoder='abc',
    commentary='Lean back, 体を “倒す”!',
    commentary_time=1.5,
    window=np.array([0.5, 2.5], np.float32),
    correct=['balance'],
    incorrect=['knee bend', 'timing'],
    faults=['timing'],
    has_faults=True,
    proficiency=2,
    provenance='videos/a.mp4',
    licence='CC-BY-4.0',
    token_lengths=np.array([12, 34], np.int32),
  )


def bare() -> Clip:
  """A clip with nothing but its names."""
  return Clip('b-1', 'tiny', 'golf', 'swing', 'p2', 'p2-t1')


def assert_same(one: Clip, other: Clip) -> None:
  for field in dataclasses.fields(Clip):
    a, b = getattr(one, field.name), getattr(other, field.name)
    assert type(a) is type(b), field.name
    if isinstance(a, np.ndarray):
      assert (a.shape, a.dtype) == (b.shape, b.dtype), field.name
    np.testing.assert_array_equal(a, b, err_msg=field.name)


@pytest.mark.parametrize('make', [full, bare])
def test_examples_and_back(make):
  assert_same(Clip.from_example(make().to_example()), make())


def test_text_may_come_as_bytes():
  example = full().to_example()
  for name, value in example.items():
    if isinstance(value, str):
      example[name] = value.encode()
    elif isinstance(value, list):
      example[name] = np.array([v.encode() for v in value], object)
  assert_same(Clip.from_example(example), full())


def test_array_record_gives_back_what_went_in(write_dataset, tmp_path):
  directory = write_dataset(tmp_path, {'train': [full(), bare()], 'test': [bare()]})
  source = tfds.builder_from_directory(str(directory)).as_data_source()
  read = [Clip.from_example(example) for example in source['train']]
  assert_same(read[0], full())
  assert_same(read[1], bare())
  assert_same(Clip.from_example(source['test'][0]), bare())


def test_a_missing_field_is_an_error():
  example = bare().to_example()
  del example['take']
  with pytest.raises(KeyError, match='take'):
    Clip.from_example(example)


def test_table_class_and_features_name_the_same_fields():
  rows = re.findall(r'^\| (`.*?) \|', record.__doc__ or '', re.M)
  documented = [name for row in rows for name in re.findall(r'`(\w+)`', row)]
  fields = [field.name for field in dataclasses.fields(Clip)]
  assert documented == fields
  assert list(record.features_dict()) == fields


def test_the_documented_types_are_those_of_the_features():
  features = record.features_dict()
  for names, kind in re.findall(r'^\| (`.*?) \| (.*?) \|', record.__doc__ or '', re.M):
    for name in re.findall(r'`(\w+)`', names):
      feature = features[name]
      if kind == 'str':
        assert isinstance(feature, tfds.features.Text), name
      elif kind == 'list[str]':
        assert isinstance(feature.feature, tfds.features.Text), name
      else:
        assert np.dtype(feature.np_dtype).name == kind.split('[')[0], name
