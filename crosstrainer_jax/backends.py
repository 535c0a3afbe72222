"""What can stand behind discovery, by name, and the language models that several verbs ask."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from crosstrainer_jax.discovery.answers import DEFAULT as ANSWERS
from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.backend import Discoverer
from crosstrainer_jax.discovery.language_model import LanguageModel, Sampling

KEY = 'OPENAI_API_KEY'


@dataclasses.dataclass(frozen=True)
class ModelSettings:
  """Which language model is asked, and how: `config.discovery`, and the options of the verbs.

  Attributes:
    model: as the server calls it; for `local` a directory or repository of the hub.
    base_url: of the server; "" for OpenAI's own.
    prompt: of discovery: a name in `instructions.toml`, or a TOML file.
    temperature, max_tokens, seed: see `Sampling`.
    retries: how often a question is asked again whose answer cannot be read.
    concurrency: calls at the same time; for `local` questions in a batch.
    requests_per_minute: at most; 0 for no limit.
    timeout: seconds of one call.
    api_key_env: name of the environment variable that holds the key.
    answers: the file in which answers are kept; "" for `runs/answers.sqlite`.
  """

  model: str = ''
  base_url: str = ''
  prompt: str = 'paper'
  temperature: float = 0.0
  max_tokens: int = 300
  seed: int = 0
  retries: int = 2
  concurrency: int = 4
  requests_per_minute: float = 0.0
  timeout: float = 120.0
  api_key_env: str = KEY
  answers: str = ''

  @classmethod
  def of(cls, values: Mapping[str, Any]) -> ModelSettings:
    """Those of a mapping that has more, such as `config.discovery` or the options of a verb."""
    return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values})

  @property
  def sampling(self) -> Sampling:
    return Sampling(self.temperature, self.max_tokens, self.seed)


def create(name: str, settings: ModelSettings | None = None) -> Discoverer:
  """The backend of discovery called `name`.

  Raises:
    ValueError: no such backend (the message lists the known ones), or settings that it cannot work with.
  """
  if name not in BACKENDS:
    raise ValueError(f'unknown discovery backend {name!r}; known: {", ".join(sorted(BACKENDS))}')
  return BACKENDS[name](settings or ModelSettings())


def open_asker(name: str, settings: ModelSettings) -> Asker:
  """Asks the language model behind a backend, and keeps its answers.

  Raises:
    ValueError: a backend without a language model, or settings that cannot work.
  """
  if name not in MODELS:
    raise ValueError(f'--backend {name} has no language model; these have one: {", ".join(MODELS)}')
  model = MODELS[name](settings)
  return Asker(model, AnswerStore(settings.answers or ANSWERS), settings.retries)


def open_seeing_asker(name: str, settings: ModelSettings) -> Asker:
  """The same for a model that is to see images.

  Raises:
    ValueError: a directory whose model sees none, or as of `open_asker`. What a server's model sees, it says itself.
  """
  asker = open_asker(name, settings)
  if name == 'local':
    from crosstrainer_jax.inference.local_vision_model import LocalVisionModel

    if not isinstance(asker.model, LocalVisionModel):
      raise ValueError(f'--model {settings.model} sees no images: name a directory or repository of Qwen2.5-VL')
  return asker


def lexicon(settings: ModelSettings) -> Discoverer:
  """Rules and words, offline; takes no settings."""
  from crosstrainer_jax.discovery.lexicon import LexiconDiscoverer

  return LexiconDiscoverer()


def lexicon_phrases(settings: ModelSettings) -> Discoverer:
  """The same with the expert's own words in the place of canonical names."""
  from crosstrainer_jax.discovery.lexicon import LexiconDiscoverer

  return LexiconDiscoverer(phrases=True)


def language_model(name: str) -> Callable[[ModelSettings], Discoverer]:
  """The language model `name` of `MODELS` with the instruction of the settings."""

  def create(settings: ModelSettings) -> Discoverer:
    from crosstrainer_jax.discovery import instructions, language

    instruction = instructions.load(settings.prompt)
    return language.LanguageDiscoverer(name, open_asker(name, settings), instruction)

  return create


def open_server(settings: ModelSettings) -> LanguageModel:
  """The model of any server that speaks OpenAI's chat completions."""
  from crosstrainer_jax.discovery.server import DEFAULT_URL, Server

  key = os.environ.get(settings.api_key_env, '')
  if not key and (settings.api_key_env != KEY or (settings.base_url or DEFAULT_URL) == DEFAULT_URL):
    raise ValueError(
      f'the key of the server is looked for in the environment variable {settings.api_key_env}, which is not set: '
      f'export {settings.api_key_env}=… (a server without a key needs --base_url alone)'
    )
  return Server(
    settings.model,
    settings.base_url,
    settings.sampling,
    api_key=key,
    key_from=settings.api_key_env,
    concurrency=settings.concurrency,
    requests_per_minute=settings.requests_per_minute,
    timeout=settings.timeout,
  )


def open_directory(settings: ModelSettings) -> LanguageModel:
  """A model of the hub, run by our own decoder; one of Qwen2.5-VL sees images."""
  from crosstrainer_jax.inference.local_model import LocalModel
  from crosstrainer_jax.inference.local_vision_model import LocalVisionModel
  from crosstrainer_jax.models.pretrained import sees

  kind = LocalVisionModel if settings.model and sees(settings.model) else LocalModel
  return kind(settings.model, settings.sampling, settings.concurrency)


def describe(asker: Asker) -> str:
  """The model and how it is asked, in one line."""
  model, sampling = asker.model, asker.model.sampling
  place = f' at {model.url}' if hasattr(model, 'url') else ''
  temperature = f'temperature {sampling.temperature:g}' if sampling.temperature >= 0 else "the server's temperature"
  return (
    f'asking {model.name}{place}: {temperature}, at most {sampling.max_tokens} tokens; '
    f'answers are kept in {asker.store.path}'
  )


def add_options(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
  """The options of `ModelSettings`, and of an estimate, for a verb; `--backend` and those `without` are its own."""
  group = parser.add_argument_group('language model (--backend openai, or local where the verb has it)')

  def add(name: str, **settings: Any) -> None:
    if name in without:
      return
    # both spellings are in use elsewhere
    group.add_argument(*dict.fromkeys((f'--{name}', f'--{name.replace("_", "-")}')), dest=name, **settings)

  default = ModelSettings()
  add('model', default='', help='as the server calls it; for local a directory or repository of the hub')
  add('base_url', default='', help="address of the server, up to /v1; default: OpenAI's own")
  add('api_key_env', default=KEY, help='environment variable with the key (default: %(default)s)')
  add('temperature', type=float, default=0.0, help='below 0 leaves it to the server (default: %(default)s)')
  add('max_tokens', type=int, default=default.max_tokens, help='of an answer (default: %(default)s)')
  add('seed', type=int, default=0, help='of another answer, with a temperature (default: %(default)s)')
  add('retries', type=int, default=default.retries, help='for an answer that cannot be read (default: %(default)s)')
  add('concurrency', type=int, default=default.concurrency, help='calls at the same time (default: %(default)s)')
  add('requests_per_minute', type=float, default=0.0, help='at most; 0 for no limit')
  add('timeout', type=float, default=default.timeout, help='seconds of one call (default: %(default)s)')
  add('answers', default='', help=f'file in which answers are kept (default: {ANSWERS})')
  add('estimate', action='store_true', help='print calls, tokens and price, and ask nothing')
  add('price_in', type=float, default=0.0, help='of a million tokens of prompts')
  add('price_out', type=float, default=0.0, help='of a million tokens of answers')


# What each needs is imported on first use, so that nobody pays for the dependencies of the others.
MODELS: dict[str, Callable[[ModelSettings], LanguageModel]] = {'openai': open_server, 'local': open_directory}
BACKENDS: dict[str, Callable[[ModelSettings], Discoverer]] = {
  'lexicon': lexicon,
  'lexicon-phrases': lexicon_phrases,
  **{name: language_model(name) for name in MODELS},
}
