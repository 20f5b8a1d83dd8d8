"""Probes: pictures painted by the program, and questions about them whose answers it therefore knows.

Comes in: a seed, a size, how many. Goes out: a folder with pictures and a file of questions, and what answers to them
are worth. Deterministic: the same arguments give the same bytes of questions and the same pixels on every machine with
the same Pillow.
"""
