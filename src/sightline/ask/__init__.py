"""Asking a language model over the network, paid for once.

Comes in: questions, a teacher, a ledger file. Goes out: the replies, each asked and paid for once, whatever happens in
between. Knows nothing of pictures, captions or benchmarks, and nothing of torch.
"""
