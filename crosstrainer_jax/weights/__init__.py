"""Files of weights: reading and writing those of the Hugging Face hub and of PyTorch, and the weights that ship."""
