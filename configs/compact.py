"""The compact preset: the paper's architecture at a size that two CPU cores train in minutes.

Every config of the model starts from it.

Larger presets change values, never code. Durations are epochs over the training clips of a stage.
"""

import ml_collections


def preset() -> ml_collections.ConfigDict:
  """All settings with their defaults."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  # replica x fsdp x tensor within a slice, and across slices; -1 takes what is left.
  config.mesh = (1, -1, 1)
  config.mesh_across = (-1, 1, 1)

  # --- Data: `skillsim` is made on the spot; any other name is a set of own videos that `prepare` imported.
  # `window` (μ1, μ2 in seconds, (0, 0) for all) and `views` (0 for all) look at less than was prepared. `text` is raw,
  # condensed (by the file `condensed` of discover --condense), or expertaf (of the dataset of that name).
  config.data = ml_collections.ConfigDict({
    'dataset': 'skillsim', 'window': (0.0, 0.0), 'views': 0, 'text': 'raw', 'condensed': '',
    'skillsim': {
      'seed': 0, 'entanglement': 0.3, 'commentary_noise': 0.1, 'camera_shift': 0.0,
      'train_clips': 1200, 'test_clips': 400,
    },
  })  # fmt: skip
  # `source` is the sport that trains under the setting SPORT. `shots` clips of the held-out sport train under K-shot;
  # `seed` of the run draws them.
  config.split = ml_collections.ConfigDict({
    'setting': 'FS', 'held_out': '', 'source': '', 'validation_share': 0.1, 'seed': 0, 'shots': 0,
  })  # fmt: skip
  # The workdir of a finished run whose parameters and tokenizer this one starts from.
  config.init = ml_collections.ConfigDict({'from_run': ''})
  # `openai` is any server that speaks OpenAI's chat completions, `local` a directory of the hub (docs/discovery.md).
  # Phrases are learnt as they were found, or under the names of the file `canonical` (discover --canonical).
  config.discovery = ml_collections.ConfigDict({
    'backend': 'lexicon', 'model': '', 'base_url': '', 'api_key_env': 'OPENAI_API_KEY', 'prompt': 'paper',
    'temperature': 0.0, 'max_tokens': 300, 'retries': 2, 'concurrency': 4, 'requests_per_minute': 0.0, 'timeout': 120.0,
    'answers': '', 'canonical': '',
  })  # fmt: skip
  config.prompt = ml_collections.ConfigDict({'k': 3})
  config.tokenizer = ml_collections.ConfigDict({'vocab_size': 2048})

  # --- f_v: frozen, so that its features are cached; with `source='frames'` frames come in instead, and f_v trains too
  # unless `training.frozen` names it. `weights` is `shipped`, a file, or a directory or repository of the Hugging Face
  # hub; `fps` (frames looked at in a second), `size` (their height and width) and `dtype` are for those that leave them
  # open, 0 and '' for their own.
  config.encoder = ml_collections.ConfigDict({
    'weights': 'shipped', 'revision': '', 'fps': 0, 'size': 0, 'dtype': '', 'source': 'features', 'batch_size': 32,
  })  # fmt: skip

  # --- L; f_m takes its width from here.
  config.decoder = ml_collections.ConfigDict({
    'name': 'llama',
    'hidden_size': 128, 'intermediate_size': 320, 'num_layers': 2, 'num_heads': 4, 'num_kv_heads': 2, 'head_dim': 32,
    'rope_theta': 10000.0, 'rms_norm_eps': 1e-5, 'tie_embeddings': True, 'max_position': 512, 'dropout': 0.0,
    'dtype': 'float32', 'param_dtype': 'float32', 'attention': 'auto', 'remat': 'none', 'unroll': True,
  })  # fmt: skip
  # Adapters of L; rank 0 is none, and L itself trains. `weights` is an adapter of PEFT to go on from.
  config.lora = ml_collections.ConfigDict({
    'rank': 0, 'alpha': 256.0, 'dropout': 0.05, 'targets': '_proj$', 'weights': '',
  })  # fmt: skip
  # f_m. Features of a frozen encoder are whitened for an L that starts from nothing (docs/decisions/0002). `weights` is
  # a directory or repository of Qwen2.5-VL, whose merger it starts as.
  config.mapper = ml_collections.ConfigDict({'whiten': True, 'weights': ''})

  # --- Training of every stage.
  config.training = ml_collections.ConfigDict({
    # In clips, however many rows they take.
    'batch_size': 16,
    # The longest row that several clips share; 0 gives each clip its own.
    'row_tokens': 0,
    # Parts of an update that are computed one after another, where memory is short.
    'accumulate': 1,
    # Regular expressions of paths of parameters that do not train.
    'frozen': (),
    'view_dropout': 0.2,
    # Our L starts from nothing: the name of a sport that it never read must not throw it off.
    'name_dropout': 0.5,
    'workers': 0,
    'threads': 2,
    # Batches that the readers may be ahead.
    'prefetch': 4,
    'save_every': 500,
    # Of the newest checkpoints so many stay, beside the best one on validation clips; and every multiple of
    # `keep_every` updates, 0 for none.
    'keep': 2,
    'keep_every': 0,
    # Seconds that an update, a batch or a save may take before the run ends with the stacks of all threads; 0 for any.
    'watchdog': 900.0,
    # A profile of `profile_updates` updates from update `profile_at` of every stage on, 0 for none; SIGUSR1 asks for
    # one at any time.
    'profile_at': 0,
    'profile_updates': 5,
    'log_every': 50,
    # Updates between two looks at the loss on validation clips; 0 for none.
    'evaluate_every': 0,
    'optimizer': {
      # With Muon feedback follows the attributes after far fewer updates (docs/decisions/0002).
      'name': 'muon',
      'learning_rate': 4e-3,
      # The paper trains f_m ten times as fast as L (section 4.1); our L is not pretrained, so the gap is smaller.
      'learning_rate_rules': (('^mapper/', 2.0),),
      'warmup_fraction': 0.1, 'final_fraction': 0.02, 'b1': 0.9, 'b2': 0.98, 'weight_decay': 0.1, 'clip_norm': 1.0,
    },
  })  # fmt: skip

  # Stage I: F_a. Stage II: F_a and F_t from stage I's weights, `feedback` : `attributes` batches of each task in turn.
  config.stage1 = ml_collections.ConfigDict({'epochs': 4.0})
  config.stage2 = ml_collections.ConfigDict(
    {
      'epochs': 5.0,
      'feedback': 3,
      'attributes': 2,
      # F_t sees attributes predicted out of fold, so that it learns to live with mistakes, mixed with true ones.
      'folds': 2,
      'fold_epochs': 2.0,
      'true_ratio': 0.75,
    }
  )
  config.probe = ml_collections.ConfigDict({'steps': 300, 'learning_rate': 0.02, 'weight_decay': 1.0})

  # --- Two towers, for the rows that retrieve. `text_encoder` is a directory of a BERT or CLIP, which then is the text
  # tower; without one it is a small transformer over the run's own tokens. With head='none' vectors are those of the
  # pretrained encoders. `lora_rank` above 0 puts adapters beside their layers called like `lora_targets`, and freezes
  # what was there. The loss takes `block` columns at a time.
  config.contrastive = ml_collections.ConfigDict({
    'width': 64, 'layers': 1, 'heads': 4, 'dim': 64, 'text_encoder': '', 'max_text_tokens': 96,
    'head': 'own', 'lora_rank': 0, 'lora_targets': '_proj$',
    'batch_size': 128, 'epochs': 6.0, 'block': 1024, 'frozen': (),
    'optimizer': {
      'name': 'adamw', 'learning_rate': 2e-3, 'learning_rate_rules': (), 'warmup_fraction': 0.1,
      'final_fraction': 0.02, 'b1': 0.9, 'b2': 0.98, 'weight_decay': 0.1, 'clip_norm': 1.0,
    },
  })  # fmt: skip

  # --- Evaluation. `rows` are further rows that are trained: those that retrieve, by default, which take half a minute;
  # 'end to end without attributes' and 'video zeroed' as long as CrossTrainer itself. The sweeps have those too.
  config.eval = ml_collections.ConfigDict(
    {
      'rows': ('fine-tuned retrieval', 'attribute retrieval'),
      # Shares of wrong attributes that F_t is given, a row for each (paper, Table 4): (0.1, 0.2, 0.3, 0.5, 0.7).
      'noise': (),
      'batch_size': 100,
      'max_attribute_tokens': 24,
      'max_feedback_tokens': 64,
      'resamples': 1000,
      # The directory of a BERT or RoBERTa for BERT-score, which IoU@k then goes by, and a file of baselines to rescale
      # it; '' for a lexical similarity, and for raw scores.
      'bert': '',
      'bert_baseline': '',
      # How phrases are matched in IoU@k (hungarian, greedy), and what two empty lists are (1, skip).
      'matching': 'hungarian',
      'empty': '1',
      # Test clips on which CrossTrainer's confidence is measured, evenly drawn; 0 for none.
      'confidence_clips': 100,
      # Clips shown in TensorBoard with truth and prediction.
      'shown': 6,
    }
  )

  # --- Confidence of `assess`: share of sampled lists that name an attribute.
  config.assess = ml_collections.ConfigDict(
    {'samples': 32, 'temperature': 1.0, 'target_precision': 0.5, 'validation_clips': 200}
  )
  return config


def smoke(config: ml_collections.ConfigDict) -> None:
  """The same code in two minutes: fewer clips and epochs. Its scores mean nothing."""
  config.data.skillsim.train_clips = 48
  config.data.skillsim.test_clips = 16
  config.tokenizer.vocab_size = 512
  config.decoder.hidden_size = 64
  config.decoder.intermediate_size = 128
  config.decoder.head_dim = 16
  config.training.batch_size = 16
  # One shape a task: as few programs to compile as there can be.
  config.training.row_tokens = 512
  config.training.log_every = 4
  config.stage1.epochs = 2.0
  config.stage2.epochs = 2.0
  config.stage2.fold_epochs = 1.0
  config.probe.steps = 50
  config.contrastive.width = 16
  config.contrastive.dim = 16
  config.contrastive.batch_size = 16
  config.contrastive.epochs = 2.0
  config.eval.rows = ('end to end without attributes', 'video zeroed', *config.eval.rows)
  config.eval.resamples = 100
  config.eval.batch_size = 24
  config.assess.samples = 4
  config.eval.confidence_clips = 8
