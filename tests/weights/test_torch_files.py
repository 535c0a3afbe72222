"""Files of PyTorch written by hand, opcode by opcode, without PyTorch: what is read, and that nothing in them runs."""

import contextlib
import copyreg
import pickle
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest

from crosstrainer_jax.weights import torch_files
from crosstrainer_jax.weights.mapped_tensor import Tensor

NUMBERS = np.arange(12, dtype=np.float32)


def plain(value):
  """Opcodes that push a value of Python's own types."""
  return pickle.dumps(value, 2)[2:-1]


def name(module, attribute):
  """Opcodes that push what a module calls `attribute`."""
  return b'c' + f'{module}\n{attribute}\n'.encode()


def stack_name(module, attribute):
  """As `name`, the newer way."""
  return plain(module) + plain(attribute) + b'\x93'


def tuple_of(*items):
  return b'(' + b''.join(items) + b't'


def call(function, *arguments):
  return function + tuple_of(*arguments) + b'R'


def build(thing, state):
  return thing + state + b'b'


def mapping(items):
  return b'}(' + b''.join(plain(key) + value for key, value in items.items()) + b'u'


def storage(key='0', kind='FloatStorage', length=12):
  return tuple_of(plain('storage'), name('torch', kind), plain(key), plain('cpu'), plain(length)) + b'Q'


def tensor(place=None, first=0, shape=(3, 4), strides=(4, 1), more=()):
  hooks = call(name('collections', 'OrderedDict'))
  arguments = [place or storage(), plain(first), plain(shape), plain(strides), plain(False), hooks, *more]
  return call(name('torch._utils', '_rebuild_tensor_v2'), *arguments)


def write(path, content, storages=None, compression=zipfile.ZIP_STORED, folder='archive/', others=None):
  """A file as torch.save lays it out; `content` is what the pickle pushes."""
  storages = {'0': NUMBERS.tobytes()} if storages is None else storages
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(f'{folder}data.pkl', b'\x80\x02' + content + b'.', zipfile.ZIP_STORED)
    archive.writestr(f'{folder}byteorder', 'little')
    for key, numbers in storages.items():
      archive.writestr(f'{folder}data/{key}', numbers, compression)
    archive.writestr(f'{folder}version', '3\n')
    for key, value in (others or {}).items():
      archive.writestr(key, value)
  return path


def read(path):
  return {key: value.read() for key, value in torch_files.read(path).items()}


# What honest files hold


def test_a_state_dict(tmp_path):
  half = np.arange(6).astype(ml_dtypes.bfloat16)
  content = mapping({'a.weight': tensor(), 'a.bias': tensor(storage('1', 'BFloat16Storage', 6), 2, (4,), (1,))})
  found = read(write(tmp_path / 'x.bin', content, {'0': NUMBERS.tobytes(), '1': half.tobytes()}))
  assert list(found) == ['a.weight', 'a.bias']
  np.testing.assert_array_equal(found['a.weight'], NUMBERS.reshape(3, 4))
  assert found['a.bias'].dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found['a.bias'], half[2:])


def test_views_of_one_storage(tmp_path):
  content = mapping(
    {
      'transposed': tensor(shape=(4, 3), strides=(1, 4)),
      'column': tensor(first=1, shape=(3,), strides=(4,)),
      'expanded': tensor(first=5, shape=(2, 3), strides=(0, 0)),
      'scalar': tensor(first=11, shape=(), strides=()),
      'empty': tensor(shape=(0, 4), strides=(4, 1)),
    }
  )
  found = read(write(tmp_path / 'x.bin', content))
  np.testing.assert_array_equal(found['transposed'], NUMBERS.reshape(3, 4).T)
  np.testing.assert_array_equal(found['column'], [1, 5, 9])
  np.testing.assert_array_equal(found['expanded'], np.full((2, 3), 5))
  assert found['scalar'].shape == ()
  assert found['scalar'] == 11
  assert found['empty'].shape == (0, 4)


@pytest.mark.parametrize('kind', torch_files.STORAGES)
def test_types(kind, tmp_path):
  values = np.array([0, 1, 0, 1, 1]).astype(torch_files.STORAGES[kind])
  content = mapping({'x': tensor(storage(kind=kind, length=5), shape=(5,), strides=(1,))})
  found = read(write(tmp_path / 'x.bin', content, {'0': values.tobytes()}))['x']
  assert found.dtype == values.dtype
  np.testing.assert_array_equal(found, values)


def test_parameters_and_what_lies_within(tmp_path):
  parameter = call(name('torch._utils', '_rebuild_parameter'), tensor(), plain(True), plain(OrderedDict()))
  inner = b'](' + tensor() + parameter + plain('no tensor') + b'e'
  content = mapping({'epoch': plain(3), 'state_dict': mapping({'module.w': parameter}), 'lists': inner})
  found = read(write(tmp_path / 'x.pth', content))
  assert list(found) == ['state_dict.module.w', 'lists.0', 'lists.1']


def test_an_ordered_dict_with_metadata(tmp_path):
  state = build(
    call(name('collections', 'OrderedDict')) + b'(' + plain('w') + tensor() + b'u', mapping({'_metadata': plain({})})
  )
  assert list(read(write(tmp_path / 'x.bin', state))) == ['w']


def test_a_file_that_holds_itself(tmp_path):
  """A dict that is a member of itself is looked through once."""
  content = b'}q\x05(' + plain('self') + b'h\x05' + plain('w') + tensor() + b'u'
  assert list(read(write(tmp_path / 'x.bin', content))) == ['w']


def test_where_the_numbers_lie_is_read_from_the_local_header(tmp_path):
  """As torch.save does, which pads there, so that numbers are aligned."""
  path = tmp_path / 'x.bin'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('data.pkl', b'\x80\x02' + mapping({'w': tensor()}) + b'.')
    entry = zipfile.ZipInfo('data/0')
    entry.extra = b'FB\x0d\x00' + b'Z' * 13
    archive.writestr(entry, NUMBERS.tobytes())
  np.testing.assert_array_equal(read(path)['w'], NUMBERS.reshape(3, 4))


# What hostile files hold


def payloads(marker):
  """Pickles that make the file `marker` when they are loaded in earnest, by what they use."""
  shell, python = f'touch {marker}', f'__import__("pathlib").Path({str(marker)!r}).touch()'
  system, run = name('os', 'system'), name('builtins', 'eval')
  # a class made by the pickle, whose __setstate__ is eval
  made = call(name('builtins', 'type'), plain('Made'), tuple_of(), mapping({'__setstate__': run}))
  modules, imported = name('sys', 'modules'), call(name('builtins', '__import__'), plain('os'))
  return {
    'os.system': call(system, plain(shell)),
    'posix.system': call(name('posix', 'system'), plain(shell)),
    'subprocess': call(name('subprocess', 'call'), plain(['touch', str(marker)])),
    'eval': call(run, plain(python)),
    'exec': call(name('builtins', 'exec'), plain(python)),
    'nested': call(run, call(name('builtins', 'str'), call(name('builtins', 'str'), plain(python)))),
    'stack global': call(stack_name('os', 'system'), plain(shell)),
    'frozen name': b'\x80\x04' + call(stack_name('builtins', 'eval'), plain(python)),
    'getattr': call(call(name('builtins', 'getattr'), imported, plain('system')), plain(shell)),
    'inst': b'(' + plain(shell) + b'ios\nsystem\n',
    'obj': b'(' + name('pathlib', 'Path') + plain(str(marker)) + b'o' + b'0' + call(system, plain(shell)),
    'newobj': call(name('functools', 'partial'), system, plain(shell)) + b')R',
    'build': build(call(made), plain(python)),
    'append': call(name('functools', 'reduce'), run, plain([python, {}])),
    'modules': modules + b'0' + call(name('runpy', '_run_code'), plain(python), plain({})),
    'map': call(name('builtins', 'list'), call(name('builtins', 'map'), run, plain([python]))),
    'weights': call(name('torch._utils', '_rebuild_parameter'), call(system, plain(shell))),
  }  # fmt: skip


KINDS = sorted(payloads('x'))


def earnest(payload):
  """What Python's own unpickler does with it."""
  return pickle.loads(b'\x80\x02' + payload + b'.')


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind != 'weights'])
def test_the_payloads_are_live(kind, tmp_path):
  """Loaded in earnest, every one of them runs: that nothing runs below is then no accident."""
  marker = tmp_path / 'marker'
  earnest(payloads(marker)[kind])
  assert marker.exists()


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_runs(kind, tmp_path):
  marker = tmp_path / 'marker'
  payload = payloads(marker)[kind]
  content = mapping({'before': tensor(), 'evil': payload, 'after': tensor(shape=(12,), strides=(1,))})
  found = read(write(tmp_path / 'x.bin', content))
  assert not marker.exists()
  assert list(found) == ['before', 'after']
  np.testing.assert_array_equal(found['after'], NUMBERS)


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_runs_in_the_place_of_a_tensor_s_parts(kind, tmp_path):
  """As the storage, its key, the shape or the whole content: a clear error, and nothing runs."""
  marker = tmp_path / 'marker'
  evil = payloads(marker)[kind]
  wrong_key = tuple_of(plain('storage'), name('torch', 'FloatStorage'), evil, plain('cpu'), plain(12)) + b'Q'
  wrong_kind = tuple_of(plain('storage'), evil, plain('0'), plain('cpu'), plain(12)) + b'Q'
  rebuild = name('torch._utils', '_rebuild_tensor_v2')
  wrong_shape = call(rebuild, storage(), plain(0), evil, plain((1,)))
  wrong_first = call(rebuild, storage(), evil, plain((3,)), plain((1,)))
  for content in (tensor(evil), tensor(wrong_key), tensor(wrong_kind), evil + b'Q', wrong_shape, wrong_first, evil):
    path = write(tmp_path / 'x.bin', mapping({'w': content}))
    with pytest.raises(ValueError, match=r'x\.bin: .* Convert it where PyTorch is installed'):
      torch_files.read(path)
  assert not marker.exists()


@pytest.mark.parametrize('opcode', [b'\x82\xf0', b'\x83\xf0\x00', b'\x84\xf0\x00\x00\x00'], ids=['1', '2', '4'])
@pytest.mark.parametrize('loaded_before', [False, True])
def test_extensions(opcode, loaded_before, tmp_path):
  """A number that this process registered for a function; once used, pickle keeps the function itself."""
  marker = tmp_path / 'marker'
  payload = call(opcode, plain(f'touch {marker}'))
  copyreg.add_extension('os', 'system', 240)
  try:
    if loaded_before:
      earnest(payload)
      assert marker.exists()
      marker.unlink()
    path = write(tmp_path / 'x.bin', mapping({'evil': payload, 'w': tensor()}))
    with pytest.raises(ValueError, match='its pickle has EXT. 240, which PyTorch does not write'):
      torch_files.read(path)
    assert not marker.exists()
  finally:
    copyreg.remove_extension('os', 'system', 240)
    copyreg.clear_extension_cache()


@pytest.mark.parametrize('put', [b'r\xff\xff\xff\x7f', b'p2000000000\n'])
def test_a_memo_that_would_take_all_memory(put, tmp_path):
  path = write(tmp_path / 'x.bin', mapping({'w': tensor()}) + put)
  with pytest.raises(ValueError, match='PUT 2[0-9]{9}, which PyTorch does not write'):
    torch_files.read(path)


def test_nothing_in_the_process_changes(tmp_path):
  """BUILD sets attributes, or calls `__setstate__`, of whatever was named; a dtype has one, functions take both."""
  turned = plain((3, '>', None, None, None, -1, -1, 0))
  attributes = tuple_of(b'N', mapping({'__defaults__': plain((1, 2)), '__doc__': plain('evil')}))
  entries = mapping({'evil': plain(1), '__setstate__': name('os', 'system')})
  targets = [
    name('torch', 'BFloat16Storage'), name('torch', 'FloatStorage'), name('collections', 'OrderedDict'),
    name('torch._utils', '_rebuild_tensor_v2'), name('torch._utils', '_rebuild_parameter'), name('os', 'system'),
    storage(), tensor(),
  ]  # fmt: skip
  known = [torch_files.Inert, OrderedDict, torch_files._first, torch_files._Unpickler._tensor, Tensor]
  before = [(thing.__doc__, getattr(thing, '__defaults__', None), dict(vars(thing))) for thing in known]
  for target in targets:
    for state in (turned, attributes, entries):
      path = write(tmp_path / 'x.bin', mapping({'w': tensor(), 'evil': build(target, state)}))
      with contextlib.suppress(ValueError):
        assert set(torch_files.read(path)) <= {'w', 'evil'}
  assert [(thing.__doc__, getattr(thing, '__defaults__', None), dict(vars(thing))) for thing in known] == before
  assert all(dtype.isnative for dtype in torch_files.STORAGES.values())
  assert np.dtype(ml_dtypes.bfloat16).isnative
  assert Tensor(path, (1,), np.dtype(np.float32), 0).strides is None


def test_an_ordered_dict_with_other_methods(tmp_path):
  """`items` of an instance, set by the pickle, is not what is called."""
  for function in (
    name('os', 'system'),
    name('torch._utils', '_rebuild_parameter'),
    name('collections', 'OrderedDict'),
  ):
    state = call(name('collections', 'OrderedDict')) + b'(' + plain('w') + tensor() + b'u'
    path = write(tmp_path / 'x.bin', build(state, mapping({'items': function, '__iter__': function})))
    assert list(read(path)) == ['w']


INERT = ['torch.float32', 'torch.Size', 'torch.device', 'torch.hub.load', 'torch.nn.modules.linear.Linear', 'torchx.y',
         'torch.storage._load_from_bytes', 'torch._C._load_for_lite_interpreter', '__torch__.Module']  # fmt: skip
REFUSED = ['torch.UntypedStorage', 'torch.storage.TypedStorage', 'torch.ComplexFloatStorage', 'torch.QInt8Storage',
           'torch._utils._rebuild_tensor_v3', 'torch._utils._rebuild_sparse_tensor', 'torch._utils._rebuild_qtensor',
           'torch._tensor._rebuild_from_type_v2', 'torch._utils._rebuild_tensor']  # fmt: skip


@pytest.mark.parametrize('full_name', INERT)
def test_names_of_torch_that_are_no_tensors(full_name, tmp_path):
  module, _, attribute = full_name.rpartition('.')
  made = build(call(name(module, attribute), plain('x')), mapping({'weight': tensor()}))
  found = read(write(tmp_path / 'x.bin', mapping({'other': made, 'w': tensor()})))
  assert list(found) == ['w']


@pytest.mark.parametrize('full_name', REFUSED)
def test_tensors_of_other_kinds_are_refused_by_name(full_name, tmp_path):
  module, _, attribute = full_name.rpartition('.')
  path = write(tmp_path / 'x.bin', mapping({'other': name(module, attribute), 'w': tensor()}))
  with pytest.raises(ValueError, match=rf'x\.bin: holds tensors of a kind that is not read \({full_name}\)'):
    torch_files.read(path)


def test_a_negative_view_is_refused(tmp_path):
  """Its numbers lie in the file with the other sign."""
  path = write(tmp_path / 'x.bin', mapping({'w': tensor(more=(plain({'neg': True}),))}))
  with pytest.raises(ValueError, match='negative or conjugate view'):
    torch_files.read(path)
  assert list(read(write(path, mapping({'w': tensor(more=(plain({}),))})))) == ['w']


@pytest.mark.parametrize(
  'place',
  [
    {'first': 1},
    {'first': -1},
    {'first': 12, 'shape': (1,), 'strides': (1,)},
    {'shape': (3, 5)},
    {'shape': (4, 4)},
    {'shape': (2,), 'strides': (12,)},
    {'shape': (2,), 'strides': (2**70,)},
    {'shape': (2**70,), 'strides': (1,)},
    {'first': 11, 'shape': (12,), 'strides': (-1,)},
    {'shape': (3, 4), 'strides': (-4, 1), 'first': 8},
    {'shape': (-3, -4)},
    {'shape': (-1,), 'strides': (1,)},
    {'shape': (3, 4), 'strides': (4,)},
    {'shape': (3.0, 4)},
    {'shape': (True, 4)},
    {'first': 0.0},
    {'first': None},
    {'strides': ('4', 1)},
    {'shape': 12, 'strides': 1},
    {'shape': None},
    {'shape': {3: 4}},
  ],
)
def test_a_tensor_stays_within_its_storage(place, tmp_path):
  path = write(tmp_path / 'x.bin', mapping({'w': tensor(**place)}), {'0': NUMBERS.tobytes(), '1': bytes(4096)})
  with pytest.raises(ValueError, match=r'x\.bin: .* Convert it where'):
    torch_files.read(path)


@pytest.mark.parametrize('length', [13, 2**70, -1, 1.5, 'x', None, (1,), {}])
def test_a_storage_stays_within_its_entry(length, tmp_path):
  content = mapping({'w': tensor(storage(length=length), shape=(12,), strides=(1,))})
  with pytest.raises(ValueError, match=r'x\.bin: '):
    torch_files.read(write(tmp_path / 'x.bin', content))


def test_an_entry_stays_within_the_file(tmp_path):
  """The archive's directory may tell any size."""
  path = write(tmp_path / 'x.bin', mapping({'w': tensor(storage(length=10**6), shape=(10**6,), strides=(1,))}))
  content = path.read_bytes()
  at = content.rindex(b'archive/data/0')
  size = (4 * 10**6).to_bytes(4, 'little')
  path.write_bytes(content[: at - 26] + size * 2 + content[at - 18 :])
  with zipfile.ZipFile(path) as archive:
    assert archive.getinfo('archive/data/0').file_size == 4 * 10**6
  with pytest.raises(ValueError, match='storage 0 are compressed or cut off'):
    torch_files.read(path)


@pytest.mark.parametrize('compression', [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_numbers(compression, tmp_path):
  path = write(tmp_path / 'x.bin', mapping({'w': tensor()}), {'0': bytes(48)}, compression)
  with pytest.raises(ValueError, match='storage 0 are compressed or cut off'):
    torch_files.read(path)


@pytest.mark.parametrize('key', ['1', '../data.pkl', '../../x', '', 7, None])
def test_a_storage_that_is_not_there(key, tmp_path):
  path = write(tmp_path / 'x.bin', mapping({'w': tensor(storage(key))}))
  with pytest.raises(ValueError, match=r'x\.bin: .*no item named'):
    torch_files.read(path)


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'(',
    b'0',
    b'R',
    b'h\x07',
    b'\x80\x7f',
    b'\xff\xff',
    b'Iabc\n',
    b'V\\u12\n',
    b"S'\\xff\n",
    b'X\xff\xff\xff\x7f',
    b'cos\n',
    plain(3) + b')R',
    plain({}) + b'e',
    name('collections', 'OrderedDict') + plain({}) + b'b',
    plain('storage') + b'Q',
    tuple_of(plain('module'), name('torch', 'FloatStorage'), plain('0'), plain('cpu'), plain(12)) + b'Q',
    tuple_of(plain('storage'), name('torch', 'FloatStorage')) + b'Q',
    b'P0\n',
    b']' * 20_000 + b'a' * 19_999,
  ],
)
def test_a_broken_pickle(content, tmp_path):
  """Whatever the pickle does, the error says which file and what to do."""
  path = write(tmp_path / 'x.bin', content)
  with pytest.raises(ValueError, match=r'x\.bin: .* Convert it where PyTorch is installed'):
    torch_files.read(path)


def test_any_cut_or_changed_pickle_is_refused_or_inert(tmp_path):
  """In an archive whose checksums fit; what comes out is tensors within the file, or ValueError."""
  rng = np.random.default_rng(0)
  whole = mapping({'a': tensor(), 'b': tensor(shape=(12,), strides=(1,))})
  changed = [whole[:length] for length in range(0, len(whole), 7)]
  for _ in range(400):
    content = bytearray(whole)
    content[rng.integers(len(content))] = rng.integers(256)
    changed.append(bytes(content))
  refused = 0
  for content in changed:
    try:
      found = read(write(tmp_path / 'x.bin', content))
    except ValueError:
      refused += 1
    else:
      assert all(value.size <= 12 for value in found.values())
  assert refused > len(changed) // 2


def test_two_tensors_of_one_name(tmp_path):
  path = write(tmp_path / 'x.bin', mapping({'a': mapping({'b': tensor()}), 'a.b': tensor()}))
  with pytest.raises(ValueError, match='two tensors are called a.b'):
    torch_files.read(path)


def test_other_archives(tmp_path):
  path = tmp_path / 'x.bin'
  path.write_bytes(pickle.dumps({'w': 1}))  # as torch.save did before 1.6
  with pytest.raises(ValueError, match='not a PyTorch file of the zip format, or not a whole one.* Convert it'):
    torch_files.read(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data/0', NUMBERS.tobytes())
  with pytest.raises(ValueError, match='holds 0 pickles where a PyTorch file has one'):
    torch_files.read(path)
  write(path, mapping({'w': tensor()}), others={'second/data.pkl': b'.'})
  with pytest.raises(ValueError, match='holds 2 pickles where a PyTorch file has one'):
    torch_files.read(path)
  write(path, mapping({'epoch': plain(3)}))
  with pytest.raises(ValueError, match='holds no tensors'):
    torch_files.read(path)
  whole = write(path, mapping({'w': tensor()})).read_bytes()
  path.write_bytes(whole.replace(b'little', b'bigbig'))
  with pytest.raises(ValueError, match=r'x\.bin: '):
    torch_files.read(path)


def test_big_endian_numbers(tmp_path):
  path = tmp_path / 'x.bin'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', b'\x80\x02' + mapping({'w': tensor()}) + b'.')
    archive.writestr('archive/byteorder', 'big')
    archive.writestr('archive/data/0', NUMBERS.tobytes())
  with pytest.raises(ValueError, match='its numbers are not little-endian'):
    torch_files.read(path)


def test_every_length_of_a_cut_file_is_refused(tmp_path):
  path = write(tmp_path / 'x.bin', mapping({'w': tensor()}))
  whole = path.read_bytes()
  for length in range(0, len(whole), 5):
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match='not a whole one'):
      torch_files.read(path)


def test_any_changed_byte_is_refused_or_inert(tmp_path):
  """Of the archive's own records too: no error but ValueError comes out."""
  path = write(tmp_path / 'x.bin', mapping({'w': tensor()}))
  whole = path.read_bytes()
  for place in range(0, len(whole), 3):
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
    with contextlib.suppress(ValueError):
      read(path)
