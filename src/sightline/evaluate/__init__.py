"""Measuring: questions in, answers and scores out."""
