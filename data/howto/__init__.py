"""The how-to world: instructional videos on top of the embedded world, with the truth of every sentence."""
