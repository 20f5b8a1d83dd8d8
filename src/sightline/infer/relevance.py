"""How much each feature of the pictures mattered to some of the words of an answer.

Comes in: a conversation as embeddings, where its pictures' features stand, and which tokens are asked about. Goes out:
one number per feature. Weights, hooks and settings of the model are left alone, and no gradient is kept. Does not know
text, nor where in a picture a feature lies.

What is explained is the log-odds of the tokens, the sum of log(p / (1 - p)): unlike log p, it does not go flat where
the model is sure. What a feature is compared with is the mean of its picture's: the same picture with nothing anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.model.vlm import VisionLanguageModel

STEPS = 8
"""Points of the path that gradients are taken at."""
POSITIONS = 1024
"""That go through the language model at once, in as many rows as they make: a pass keeps what gradients need."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """An answer, and which of its tokens are to be explained.

    Attributes:
        embeddings: [1, T, D], of the conversation up to the last of these tokens.
        places: int64[M], the positions of the pictures' features.
        pictures: how many pictures these are of, one after the other.
        before: int64[n], the positions that the tokens follow.
        tokens: int64[n].
    """

    model: VisionLanguageModel
    embeddings: Tensor
    places: Tensor
    pictures: int
    before: Tensor
    tokens: Tensor

    @property
    def features(self) -> Tensor:
        """[M, D], those of the pictures as they are."""
        return self.embeddings[0, self.places]

    @property
    def means(self) -> Tensor:
        """[M, D], in each place the mean of its picture's features."""
        found = self.features.view(self.pictures, -1, self.features.shape[-1])
        return found.mean(1, keepdim=True).expand_as(found).flatten(0, 1)

    def score(self, features: Tensor) -> Tensor:
        """The log-odds of the tokens with other features [B, M, D] in the pictures' places: float32[B]."""
        embeddings = self.embeddings.expand(len(features), -1, -1).index_copy(1, self.places, features)
        output = self.model.language(inputs_embeds=embeddings, logits_to_keep=self.before, use_cache=False)
        return log_odds(output.logits.float(), self.tokens).sum(-1)


Method = Callable[[Asked], Tensor]
"""From a question to float32[M]; what is negative speaks against the tokens."""


def log_odds(logits: Tensor, tokens: Tensor) -> Tensor:
    """log(p / (1 - p)) of the tokens int64[n] under logits [B, n, V]: [B, n]."""
    index = tokens.expand(len(logits), -1)[..., None]
    chosen = logits.gather(-1, index)[..., 0]
    return chosen - logits.scatter(-1, index, -torch.inf).logsumexp(-1)


def integrated_gradients(asked: Asked, *, steps: int = STEPS, start: Tensor | None = None) -> Tensor:
    """What each feature adds on the straight way to the picture as it is (Sundararajan et al. 2017, section 3).

    The integral is taken by the midpoint rule. Signed: the sum is close to the difference of the two scores.

    Args:
        start: [M, D], the features that the way begins with; the means if not given.
    """
    start = (asked.means if start is None else start).detach()
    way = asked.features.detach() - start
    total = torch.zeros_like(way, dtype=torch.float32)
    shares = ((torch.arange(steps, device=way.device) + 0.5) / steps).to(way.dtype)
    for some in torch.split(shares, max(1, POSITIONS // asked.embeddings.shape[1])):
        features = (start + some[:, None, None] * way).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(asked.score(features).sum(), features)
        total += gradient.float().sum(0)
    return (total * way.float()).sum(-1) / steps
