"""Judging answers by a language model: LLaVA-Bench, MM-Vet, ScienceQA with a text-only model.

Comes in: the official files, a model's answers, a judge that is asked through `sightline.ask`. Goes out: files that
`sightline score` reads. Scores nothing itself.
"""
