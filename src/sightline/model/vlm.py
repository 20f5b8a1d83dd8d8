"""The model: an image encoder, a connector, a language model.

Comes in: token ids with one placeholder per image feature, and pixels. Goes out: logits. Knows nothing of text, image
files, training or several processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import ConfigError
from sightline.model.cache import new_cache
from sightline.model.connector import Connector
from sightline.model.fusion import scatter_features
from sightline.model.head import has_plain_head, states_at
from sightline.model.vision import VisionEncoder


class VisionLanguageModel(nn.Module):
    """Answers in text about images.

    Args:
        vision: pixels to features [N, K, C].
        connector: features to [N, K, D].
        language: a transformers causal language model of width D with V rows.
        image_token_id: the placeholder. It needs no row in the language model's vocabulary.
    """

    def __init__(self, vision: VisionEncoder, connector: Connector, language: Any, *, image_token_id: int) -> None:
        super().__init__()
        self.vision = vision
        self.connector = connector
        self.language = language
        self.image_token_id = image_token_id

    @cached_property
    def plain_head(self) -> bool:
        """See `has_plain_head`; tried once, when it is first asked for."""
        return has_plain_head(self.language)

    def parts(self) -> dict[str, nn.Module]:
        """The three parts by the names that recipes, checkpoints and logs use."""
        return {"vision": self.vision, "connector": self.connector, "language": self.language}

    def embed(
        self,
        input_ids: Tensor,
        pixels: Tensor | None,
        *,
        features: Tensor | None = None,
        shown: Tensor | None = None,
        ids: Sequence[str] | None = None,
    ) -> Tensor:
        """Token ids int64[B, T] and pixels float32[N, 3, H, W] to embeddings [B, T, D].

        The images fill the placeholders in reading order, whichever row they stand in. Without pixels the vision part
        does not run.

        Args:
            features: float[F, K, C], what the vision part has made of pictures that come before those of `pixels`.
            shown: int64[M], which picture each place in reading order shows, numbered by first showing, those of
                `features` first. Each is encoded once.
            ids: names of the rows, for the message when the counts differ.

        Raises:
            SightlineError: the placeholders are not as many as the images' features.
        """
        is_image = input_ids == self.image_token_id
        embeddings: Tensor = self.language.get_input_embeddings()(input_ids.masked_fill(is_image, 0))
        seen = [] if features is None else [features]
        if pixels is not None and len(pixels):
            seen.append(self.vision(pixels))
        if not seen:
            return scatter_features(embeddings, embeddings.new_zeros(0, embeddings.shape[-1]), is_image, ids=ids)
        joined = seen[0] if len(seen) == 1 else torch.cat(seen)
        connected = self.connector(_match_type(joined, self.connector))
        if shown is not None and (len(seen) > 1 or len(shown) != len(connected)):
            connected = connected[shown]
        return scatter_features(embeddings, connected, is_image, ids=ids)

    def forward(
        self,
        input_ids: Tensor,
        *,
        pixels: Tensor | None = None,
        features: Tensor | None = None,
        shown: Tensor | None = None,
        keep: Tensor | None = None,
        ids: Sequence[str] | None = None,
        **rows: Any,
    ) -> Tensor:
        """Logits [B, T, V], or [B, n, V] at the positions `keep`.

        Args:
            input_ids: int64[B, T]
            pixels: float32[N, 3, H, W], N pictures for the whole batch in reading order.
            features, shown, ids: see `embed`.
            keep: int64[n], the same positions in every row; only these pass through the output head.
            rows: how the rows lie. `attention_mask`, bool or int64[B, T], 0 at padding; `position_ids`, int64[B, T]; of
                packed rows the positions and `packed.packing_arguments`, and no mask.
        """
        output = self.language(
            inputs_embeds=self.embed(input_ids, pixels, features=features, shown=shown, ids=ids),
            logits_to_keep=0 if keep is None else keep,
            use_cache=False,
            **rows,
        )
        logits: Tensor = output.logits
        return logits

    def states(self, embeddings: Tensor, keep: Tensor, **rows: Any) -> Tensor:
        """Embeddings [B, T, D] from `embed` to the last hidden states [n, D] at the positions `keep`, bool[B, T].

        Args:
            rows: as in `forward`.
        """
        return states_at(self.language, keep, inputs_embeds=embeddings, **rows)

    def decode(
        self,
        inputs: Tensor,
        past: Any = None,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """One step of generation: the next token's logits [B, V], and the cache to pass to the next step.

        Args:
            inputs: embeddings [B, T, D] from `embed`, or token ids int64[B, T] without a placeholder.
            past: what the previous step returned. It changes in place.
            attention_mask: bool or int64[B, past + T], 0 at padding (on the left); none without padding.
            position_ids: int64[B, T]; those after the past's if not given.
        """
        given: dict[str, Any] = {
            "inputs_embeds" if inputs.is_floating_point() else "input_ids": inputs,
            "past_key_values": new_cache(self.language.config) if past is None else past,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "use_cache": True,
        }
        output = self.language(**given, logits_to_keep=1)
        return output.logits[:, -1], output.past_key_values

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute the layers' activations in the backward pass instead of keeping them (in training mode only).

        Raises:
            ConfigError: the language model cannot.
        """
        if enabled and not self.language.supports_gradient_checkpointing:
            raise ConfigError(f"{type(self.language).__name__} has no gradient checkpointing: leave it off")
        for model in (self.language, self.vision.backbone):
            if model.supports_gradient_checkpointing:
                _switch_checkpointing(model, enabled)


def _switch_checkpointing(model: Any, enabled: bool) -> None:
    # transformers renamed gradient_ to activation_checkpointing after 5.17; by default neither is reentrant.
    verb = "enable" if enabled else "disable"
    switch = getattr(model, f"activation_checkpointing_{verb}", None)
    (switch or getattr(model, f"gradient_checkpointing_{verb}"))()


def _match_type(features: Tensor, module: nn.Module) -> Tensor:
    """Features in the type of a module's weights; under autocast torch does that itself."""
    parameter: Tensor | None = next(module.parameters(), None)
    if parameter is None or torch.is_autocast_enabled(features.device.type):
        return features
    return features.to(parameter.dtype)
