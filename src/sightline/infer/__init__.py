"""Answering: load a checkpoint, generate, chat."""

from sightline.infer.load import load

__all__ = ["load"]
