"""CrossTrainer in JAX: assessment of a sport that the model has never seen, from video and commentary."""

import os

# transformers announces at every start that PyTorch is absent, which here it is meant to be
os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
