"""The embedded world: simulated athletes, made by code, deterministic from a seed."""

SIMULATED = True
