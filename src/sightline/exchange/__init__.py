"""Checkpoints of other software, to and from ours. Comes in: a directory. Goes out: a directory."""
