"""Small tokenizers with the special tokens and chat layouts of Llama 3 and Qwen, in the hub's directory form."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = ['Here is a video of a person doing soccer. Give feedback that will help.', 'balance, timing', 'user assistant']

# The layouts as their model cards describe them; the templates are ours.
LLAMA3 = (
  '{{ bos_token }}{{ "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string }}'
  '{{ "\\n\\n<|eot_id|>" }}'
  '{% for message in messages %}{{ "<|start_header_id|>" + message["role"] + "<|end_header_id|>\\n\\n"'
  ' + message["content"] | trim + "<|eot_id|>" }}{% endfor %}'
  '{% if add_generation_prompt %}{{ "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}{% endif %}'
)
QWEN = (
  '{% for message in messages %}{{ "<|im_start|>" + message["role"] + "\\n" + message["content"] + "<|im_end|>\\n" }}'
  '{% endfor %}{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}'
  '{% if enable_thinking is false %}{{ "<think>\\n\\n</think>\\n\\n" }}{% endif %}{% endif %}'
)
SPECIALS = {
  'llama3': [
    '<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>', '<|eom_id|>'
  ],
  'qwen': ['<|endoftext|>', '<|im_start|>', '<|im_end|>'],
  'plain': ['<s>', '</s>'],
}  # fmt: skip


def write(directory: Path, kind: str) -> Path:
  """A tokenizer of `llama3` or `qwen` with chat template, or `plain` without one; also its generation_config.json."""
  specials = SPECIALS[kind]
  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=[], initial_alphabet=alphabet, show_progress=False)
  tokenizer.train_from_iterator(TEXTS, trainer)
  tokenizer.add_special_tokens(specials)
  settings = {
    'llama3': {'bos_token': specials[0], 'eos_token': '<|eot_id|>', 'chat_template': LLAMA3},
    'qwen': {'eos_token': '<|im_end|>', 'pad_token': '<|endoftext|>', 'chat_template': QWEN},
    'plain': {'bos_token': '<s>', 'eos_token': '</s>'},
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
