"""Our checkpoints as models of other evaluation frameworks: lmms-eval, VLMEvalKit.

Comes in: what a framework asks. Goes out: answers. Prompts are made by the code that made the training data; what is
asked, and how it is scored, is the framework's, so its figures are not those of `sightline evaluate`. The modules of
the frameworks are imported by them alone; this package does not need them.
"""
