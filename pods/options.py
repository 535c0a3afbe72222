"""What ./launch_tpu.sh CONFIG --tpu NAME … was asked for, checked before anything is asked of the cloud."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

# Accelerator type -> runtime version, by how the type begins; https://cloud.google.com/tpu/docs/runtimes
RUNTIMES = {
  'v5litepod-': 'v2-alpha-tpuv5-lite',
  'v5p-': 'v2-alpha-tpuv5',
  'v6e-': 'v2-alpha-tpuv6e',
  'v4-': 'tpu-ubuntu2204-base',
  'v3-': 'tpu-ubuntu2204-base',
  'v2-': 'tpu-ubuntu2204-base',
}
WORKDIR = re.compile(r'--?workdir=.')
TAKE_A_VALUE = ('tpu', 'zone', 'project', 'type', 'runtime', 'retries')


class OptionsError(Exception):
  """What was asked for cannot be."""


@dataclasses.dataclass(frozen=True)
class Options:
  """One launch.

  Attributes:
    config: CONFIG, with its argument.
    arguments: what goes to the job on the workers, CONFIG apart.
    type: the accelerator type to ask for where there is no TPU of that name; '' asks for none.
    keep: nothing is deleted at the end.
    retries: how often the TPU is asked for again after it was lost.
  """

  config: str
  arguments: tuple[str, ...]
  tpu: str
  zone: str
  project: str
  type: str = ''
  runtime: str = ''
  spot: bool = False
  keep: bool = False
  retries: int = 20
  dry_run: bool = False

  @property
  def workdir(self) -> str:
    """Where the run lies, on the workers; a relative path is below the checkout there."""
    return [word.partition('=')[2] for word in self.arguments if WORKDIR.match(word)][-1]

  @property
  def resumable(self) -> bool:
    """Whether what is trained outlives the TPU: it lies in a bucket, or on a disk that the workers have mounted."""
    return self.workdir.startswith(('gs://', '/'))


def parse(words: Sequence[str], root: Path) -> Options:
  """Reads a command line of ./launch_tpu.sh.

  Args:
    root: of the checkout, in which the config must lie.

  Raises:
    OptionsError: something is missing, unknown or does not go together; the message says what to write.
  """
  given: dict[str, str] = {}
  flags: set[str] = set()
  configs: list[str] = []
  rest: list[str] = []
  left = list(words)
  while left:
    word = left.pop(0)
    name, has_value, value = word.removeprefix('--').partition('=')
    if word.startswith('--') and name in TAKE_A_VALUE:
      if not has_value:
        if not left or left[0].startswith('--'):
          raise OptionsError(f'--{name} needs a value: --{name}=…')
        value = left.pop(0)
      given[name] = value
    elif word in ('--spot', '--keep'):
      flags.add(name)
    elif word in ('--dry-run', '--dry_run'):
      flags.add('dry_run')
    elif word.startswith('--config='):
      configs.append(value)
    elif word.startswith('-'):
      rest.append(word)
    else:
      configs.append(word)
  if len(configs) != 1:
    raise OptionsError(f'One config is needed, {len(configs)} were given ({", ".join(configs)}); write --name=value')
  missing = [f'--{name}' for name in ('zone', 'project') if not given.get(name)]
  if missing:
    raise OptionsError(
      f'--tpu {given["tpu"]} needs {" and ".join(missing)} too; gcloud config list shows what you use, '
      'gcloud compute tpus locations list which zones have TPUs'
    )
  if not re.fullmatch(r'[a-z]([-a-z0-9]{0,61}[a-z0-9])?', given['tpu']):
    raise OptionsError(f'--tpu {given["tpu"]}: a name has small letters, digits and hyphens, and begins with a letter')
  try:
    retries = int(given.pop('retries', 20))
  except ValueError as error:
    raise OptionsError(f'--retries is a number: {error}') from None
  if not any(WORKDIR.match(word) for word in rest):
    rest.append(f'--workdir=runs/{given["tpu"]}')
  options = Options(
    config=_inside(configs[0], root), arguments=tuple(rest), retries=retries, spot='spot' in flags,
    keep='keep' in flags, dry_run='dry_run' in flags, **given,
  )  # fmt: skip
  _check(options)
  return dataclasses.replace(options, runtime=options.runtime or runtime_of(options.type))


def _check(options: Options) -> None:
  if options.type and not re.fullmatch(r'v\w+-\d+', options.type):
    raise OptionsError(f'--type {options.type}: such as v5litepod-16, v6e-8, v5p-64 or v4-32')
  if options.spot and not options.type:
    raise OptionsError('--spot says how to ask for a TPU; say which with --type, such as --type v5litepod-16')
  if several_hosts(options.type) and not options.resumable:
    raise OptionsError(
      f'{options.type} has several hosts, which must all see one workdir: --workdir=gs://BUCKET/FOLDER '
      '(or a disk that is mounted on all of them, as an absolute path)'
    )


def runtime_of(accelerator: str) -> str:
  """The runtime version that goes with an accelerator type; '' where none is asked for.

  Raises:
    OptionsError: no version is known.
  """
  for begin, runtime in RUNTIMES.items():
    if accelerator.startswith(begin):
      return runtime
  if not accelerator:
    return ''
  raise OptionsError(
    f'no runtime version is known for --type {accelerator} ({", ".join(b + "N" for b in RUNTIMES)} are; '
    'TPU7x is rented through GKE alone); if there is one, name it: --runtime VERSION'
  )


def several_hosts(accelerator: str) -> bool:
  """Whether the type is of more than one host: more than 8 chips of v5e and v6e, or 8 cores of the others."""
  return bool(accelerator) and int(accelerator.rpartition('-')[2]) > 8


def _inside(config: str, root: Path) -> str:
  """The config's path from the checkout, which is what the workers get."""
  path, colon, argument = config.partition(':')
  for file in (Path(path), root / path, root / 'configs' / path):
    if file.is_file():
      if not file.resolve().is_relative_to(root.resolve()):
        raise OptionsError(
          f'{path} lies outside the checkout {root}, which is what the workers get: put it in configs/'
        )
      return f'{file.resolve().relative_to(root.resolve())}{colon}{argument}'
  raise OptionsError(f'There is no config {path}')
