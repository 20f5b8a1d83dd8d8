"""Captions and boxes to instruction data: contexts, kinds, prompts, checks, export. Knows nothing of tensors."""
