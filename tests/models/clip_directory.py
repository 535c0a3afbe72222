"""A tiny CLIP, both towers, with a processor and a tokenizer of a few words."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.models.hub_directories import write_golden


def write(directory: Path) -> Path:
  write_golden(directory, 'clip')
  text = json.loads((directory / 'config.json').read_text())['text_config']
  words = ['bend', 'your', 'knees', 'elbow', 'in', 'head', 'up', '[UNK]']
  end = text.get('eos_token_id', 2)
  vocab = {word: number for number, word in enumerate(words) if number != end}
  vocab |= {'<s>': len(words), '</s>': end} | ({words[end]: len(words) + 1} if end < len(words) else {})
  tokenizer = Tokenizer(models.WordLevel(vocab, unk_token='[UNK]'))
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.post_processor = processors.TemplateProcessing(
    single='<s> $A </s>', special_tokens=[('<s>', vocab['<s>']), ('</s>', vocab['</s>'])]
  )
  tokenizer.save(str(directory / 'tokenizer.json'))
  (directory / 'tokenizer_config.json').write_text(
    json.dumps({'tokenizer_class': 'PreTrainedTokenizerFast', 'eos_token': '</s>', 'unk_token': '[UNK]'})
  )
  return directory
