"""Small tokenizers with the special tokens and chat layouts of Llama, Mistral and Qwen, in the hub's directory form."""

import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
  'Here is a video of a person doing soccer. Give feedback that will help.', 'balance, timing', 'user assistant',
  '[[content]] ((text)) [[answer]] ((reply)) [INST] [/INST]',
]  # fmt: skip

# The layouts of the published models; the templates are ours.
LLAMA2 = (
  '{% for message in messages %}{% if (message["role"] == "user") != (loop.index0 % 2 == 0) %}'
  '{{ raise_exception("roles alternate") }}{% endif %}'
  '{% if message["role"] == "user" %}{{ bos_token + "[INST] " + message["content"].strip() + " [/INST]" }}'
  '{% else %}{{ " " + message["content"].strip() + " " + eos_token }}{% endif %}{% endfor %}'
)
LLAMA3 = (
  '{% set date = date_string if date_string is defined else strftime_now("%d %b %Y") %}'
  '{{ bos_token }}{{ "<|start_header_id|>system<|end_header_id|>\n\n" }}'
  '{{ "Cutting Knowledge Date: December 2023\nToday Date: " + date + "\n\n<|eot_id|>" }}'
  '{% for message in messages %}{{ "<|start_header_id|>" + message["role"] + "<|end_header_id|>\n\n"'
  ' + message["content"] | trim + "<|eot_id|>" }}{% endfor %}'
  '{% if add_generation_prompt %}{{ "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{% endif %}'
)
MISTRAL = (
  '{{ bos_token }}{% for message in messages %}'
  '{% if message["role"] == "user" %}{{ "[INST] " + message["content"] + "[/INST]" }}'
  '{% else %}{{ " " + message["content"] | trim + eos_token }}{% endif %}{% endfor %}'
)
QWEN = (
  '{% for message in messages %}{{ "<|im_start|>" + message["role"] + "\n" + message["content"] + "<|im_end|>\n" }}'
  '{% endfor %}{% if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}'
  '{% if enable_thinking is false %}{{ "<think>\n\n</think>\n\n" }}{% endif %}{% endif %}'
)
QWEN25 = (
  '{% if messages[0]["role"] != "system" %}{{ "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. '
  'You are a helpful assistant.<|im_end|>\n" }}{% endif %}'
  '{% for message in messages %}{{ "<|im_start|>" + message["role"] + "\n" + message["content"] + "<|im_end|>\n" }}'
  '{% endfor %}{% if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif %}'
)
SPECIALS = {
  'llama2': ['<s>', '</s>'],
  'llama3': [
    '<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>', '<|eom_id|>'
  ],
  'mistral': ['<s>', '</s>', '[INST]', '[/INST]'],
  'qwen': ['<|endoftext|>', '<|im_start|>', '<|im_end|>'],
  'qwen2.5': ['<|endoftext|>', '<|im_start|>', '<|im_end|>'],
  'qwen2.5-vl': [
    '<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|vision_start|>', '<|vision_end|>', '<|image_pad|>',
    '<|video_pad|>',
  ],
  'plain': ['<s>', '</s>'],
  'plain llama2': ['<s>', '</s>'],
}  # fmt: skip


def write(directory: Path, kind: str) -> Path:
  """A tokenizer of one of SPECIALS, with its chat template unless it is plain; also its generation_config.json."""
  specials = SPECIALS[kind]
  tokenizer = _sentencepiece(kind) if kind in ('llama2', 'mistral', 'plain llama2') else _byte_level()
  tokenizer.add_special_tokens(specials)
  settings = {
    'llama2': {'bos_token': '<s>', 'eos_token': '</s>', 'chat_template': LLAMA2},
    'mistral': {'bos_token': '<s>', 'eos_token': '</s>', 'chat_template': MISTRAL},
    'qwen2.5': {'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>', 'chat_template': QWEN25},
    'qwen2.5-vl': {'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>', 'chat_template': QWEN25},
    'llama3': {'bos_token': specials[0], 'eos_token': '<|eot_id|>', 'chat_template': LLAMA3},
    'qwen': {'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>', 'chat_template': QWEN},
    'plain': {'bos_token': '<s>', 'eos_token': '</s>'},
    'plain llama2': {'bos_token': '<s>', 'eos_token': '</s>'},
  }[kind]
  fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, additional_special_tokens=specials, clean_up_tokenization_spaces=False, **settings
  )
  directory.mkdir(parents=True, exist_ok=True)
  fast.save_pretrained(str(directory))
  if kind == 'llama3':
    ends = [fast.convert_tokens_to_ids(token) for token in ('<|end_of_text|>', '<|eom_id|>', '<|eot_id|>')]
    (directory / 'generation_config.json').write_text(f'{{"eos_token_id": {ends}}}')
  return directory


def _byte_level() -> Tokenizer:
  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  _train(tokenizer, pre_tokenizers.ByteLevel.alphabet())
  return tokenizer


def _sentencepiece(kind: str) -> Tokenizer:
  """A space is a letter of the word behind it, and a text begins with one; of Llama 2, what follows a special token."""
  tokenizer = Tokenizer(models.BPE())
  spaces = normalizers.Replace(' ', '▁')
  tokenizer.normalizer = spaces
  tokenizer.pre_tokenizer = pre_tokenizers.Split('▁', 'merged_with_next')
  _train(tokenizer, [*string.printable, '▁'])
  if kind == 'mistral':
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace('▁', 'first')
  else:
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend('▁'), spaces])
  tokenizer.decoder = decoders.Replace('▁', ' ')
  return tokenizer


def _train(tokenizer: Tokenizer, alphabet: list[str]) -> None:
  trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=[], initial_alphabet=alphabet, show_progress=False)
  tokenizer.train_from_iterator(TEXTS, trainer)
