"""Serving: an OpenAI-compatible API and a page over one engine per checkpoint."""
