"""Where weights are: a directory or file on this machine, or a repository of the Hugging Face hub at a revision."""

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

# A repository often holds its weights twice: as safetensors, and in a form that is not read here or not needed then.
# README and LICENSE say what may be done with them.
WANTED = ('*.json', '*.jinja', '*.safetensors', 'tokenizer.model', '*.txt', 'README.md', 'LICENSE*')
# The same weights in Mistral's own form.
UNWANTED = ('consolidated*',)
# Where there are no safetensors.
PICKLED = ('pytorch_model*.bin', 'adapter_model.bin')


def locate(name: str | Path, revision: str = '') -> Path:
  """The path of `name`: of a file or directory as it is, of a repository (`owner/name`) after it was downloaded.

  Args:
    revision: commit, tag or branch of a repository; a commit makes a run repeatable. Not for what lies on this machine.

  Raises:
    FileNotFoundError: nothing is there under this name, or the hub cannot be reached and has not been before.
    ValueError: a revision for something that is no repository.
  """
  path = Path(name)
  if path.exists():
    if revision:
      raise ValueError(f'{name} lies on this machine: a revision ({revision!r}) is for repositories of the hub')
    return path
  if not re.fullmatch(r'[\w.-]+/[\w.-]+', str(name)):
    raise FileNotFoundError(f'{name}: no such file or directory, and no repository of the hub (owner/name)')
  try:
    folder = _download(str(name), revision, WANTED)
    if not any(folder.glob('*.safetensors')):
      folder = _download(str(name), revision, PICKLED)
  except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    raise FileNotFoundError(
      f'{name}: no such directory here, and as a repository of the hub it cannot be had: {reason} '
      '(for a gated model accept its licence and do `hf auth login`; without a network, download it elsewhere and '
      'give the directory)'
    ) from error
  return folder


def _download(name: str, revision: str, wanted: tuple[str, ...]) -> Path:
  return Path(
    huggingface_hub.snapshot_download(
      name, revision=revision or None, allow_patterns=list(wanted), ignore_patterns=list(UNWANTED)
    )
  )
