"""Sightline: vision-language assistants the LLaVA way."""

__version__ = "0.1.0"
