"""Segments to ids and labels, grown together.

Comes in: segments, a `transformers` tokenizer, how many placeholders a picture takes. Goes out: `Encoded(ids, labels)`
of equal length, labels equal to ids where trained and `IGNORE` elsewhere (unshifted: the model's loss shifts them).
Text is encoded by a copy of the tokenizer that has no added tokens, so no text can spell one. Knows no template, no
pixels, no tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sightline.data.plain_text import PlainText, PrefixScheme
from sightline.data.segments import ImageSegment, Segment, TextSegment, TokenSegment
from sightline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100
"""Label of a position that is not trained on: `torch.nn.CrossEntropyLoss(ignore_index=-100)` by default."""

COLLAPSED_IMAGE = -200
"""Stands for a whole picture in ids that are shown to people: IMAGE_TOKEN_INDEX of the original LLaVA."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Ids and labels of one conversation, of equal length."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Truncated(Encoded):
    """As `Encoded`; `lost` counts the trained tokens that were cut off (0: nothing that matters was lost)."""

    lost: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSegment:
    """The ids of one segment; those of `segment` None are the BOS that the tokenizer writes by itself."""

    segment: Segment | None
    ids: list[int]
    trained: bool


class SegmentEncoder:
    """Encodes segments with one tokenizer. Where the tokenizer puts BOS before a text, there is one BOS, never two.

    Args:
        tokenizer: a fast `transformers` tokenizer.
        image_token_id: the id that stands for one image feature; text can never produce it.

    Raises:
        ConfigError: the tokenizer is not a fast one, or `image_token_id` is an ordinary piece of text in it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, image_token_id: int) -> None:
        self.image_token_id = image_token_id
        self.plain = PlainText.from_tokenizer(tokenizer)
        if self.plain.can_spell(image_token_id):
            piece = tokenizer.convert_ids_to_tokens(image_token_id)
            raise ConfigError(
                f"image token id {image_token_id} is the ordinary piece {piece!r} of the tokenizer, so a text could "
                "spell an image: use the id of an added token"
            )
        self._bos = _automatic_bos(tokenizer)
        self._token_to_id = tokenizer.backend_tokenizer.token_to_id

    def encode(self, segments: Sequence[Segment], *, image_tokens: int | Sequence[int]) -> Encoded:
        """Encode one conversation.

        Args:
            segments: in reading order, pictures numbered 0, 1, 2, ... in that order.
            image_tokens: placeholders per picture, one number for all or one per picture.

        Raises:
            ConfigError: a token segment names a token that the tokenizer does not have.
        """
        ids: list[int] = []
        labels: list[int] = []
        for piece in self.pieces(segments, image_tokens=image_tokens):
            ids += piece.ids
            labels += piece.ids if piece.trained else [IGNORE] * len(piece.ids)
        return Encoded(ids=ids, labels=labels)

    def pieces(self, segments: Sequence[Segment], *, image_tokens: int | Sequence[int]) -> Iterator[EncodedSegment]:
        """The same segment by segment, for those who show where each id comes from; empty texts have none."""
        if self._bos is not None and not self._starts_with_bos(segments):
            yield EncodedSegment(segment=None, ids=[self._bos], trained=False)
        previous: Segment | None = None
        images = 0
        for segment in segments:
            if isinstance(segment, TextSegment):
                if not segment.text:
                    continue
                new, trained = self._words(segment.text, previous), segment.trained
            elif isinstance(segment, TokenSegment):
                new, trained = [self.token_id(segment.token)], segment.trained
            else:
                assert segment.index == images, f"picture {segment.index} where {images} was due"
                new, trained = [self.image_token_id] * _tokens_of(image_tokens, images), False
                images += 1
            yield EncodedSegment(segment=segment, ids=new, trained=trained)
            previous = segment

    def _words(self, text: str, previous: Segment | None) -> list[int]:
        prefixed = takes_prefix(previous, scheme=self.plain.scheme)
        if prefixed and isinstance(previous, ImageSegment):
            # As sentencepiece does it, also before a text that starts with a space; fast tokenizers leave it out there.
            return self.plain.encode(" " + text, prefixed=False)
        return self.plain.encode(text, prefixed=prefixed)

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer puts a BOS before every text by itself."""
        return self._bos is not None

    def token_id(self, token: str) -> int:
        """The id of a token by its name; `ConfigError` when the tokenizer has none."""
        found: int | None = self._token_to_id(token)
        if found is None:
            raise ConfigError(
                f"the template writes {token!r}, which the tokenizer does not have: choose another template"
            )
        return found

    def _starts_with_bos(self, segments: Sequence[Segment]) -> bool:
        return (
            bool(segments) and isinstance(segments[0], TokenSegment) and self.token_id(segments[0].token) == self._bos
        )


def _automatic_bos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The BOS that the tokenizer puts before a text by itself, if it does."""
    first: int = tokenizer("a", add_special_tokens=True)["input_ids"][0]
    return first if first == tokenizer.bos_token_id else None


def takes_prefix(previous: Segment | None, *, scheme: PrefixScheme) -> bool:
    """Whether a text after `previous` (None: it comes first) gets the dummy space of a sentencepiece tokenizer.

    As the original does it: the text on each side of a picture is a text of its own, with its own prefix. After a
    special token only the `legacy` behaviour (scheme "always") adds one; a text that continues a text never does.
    """
    if isinstance(previous, TextSegment):
        return False
    if isinstance(previous, TokenSegment):
        return scheme == "always"
    return scheme != "never"


def _tokens_of(image_tokens: int | Sequence[int], index: int) -> int:
    return image_tokens if isinstance(image_tokens, int) else image_tokens[index]


def truncate(encoded: Encoded, *, max_length: int, image_token_id: int, where: str = "") -> Truncated:
    """Cut to `max_length`, never through a picture nor before one.

    An answer cut in the middle is kept: its end token is gone, so the model does not learn to stop there.

    Args:
        encoded: as `SegmentEncoder.encode` gave it.
        max_length: positions, pictures counted in full.
        image_token_id: the placeholder.
        where: "file:line" of the sample, for the message.

    Raises:
        DataError: reason `image_tokens_truncated`: a picture does not fit; `no_supervised_tokens`: nothing that is left
            is trained on.
    """
    at = f"{where}: " if where else ""
    ids, labels = encoded.ids[:max_length], encoded.labels[:max_length]
    if image_token_id in encoded.ids[max_length:]:
        needed = len(encoded.ids) - encoded.ids[::-1].index(image_token_id)
        raise DataError(
            f"{at}the last image ends at position {needed} and max_length is {max_length}: "
            f"raise max_length above {needed} or use fewer images",
            reason="image_tokens_truncated",
        )
    kept = len(labels) - labels.count(IGNORE)
    lost = len(encoded.labels) - encoded.labels.count(IGNORE) - kept
    if kept == 0:
        cause = f"all {lost} trained tokens lie beyond max_length {max_length}" if lost else "it has no trained tokens"
        raise DataError(
            f"{at}nothing to learn from this sample: {cause}; raise max_length or drop it",
            reason="no_supervised_tokens",
        )
    return Truncated(ids=ids, labels=labels, lost=lost)


def collapse_images(ids: Sequence[int], *, image_token_id: int, image_tokens: int | Sequence[int]) -> list[int]:
    """`ids` with the placeholders of each picture as one `COLLAPSED_IMAGE`: the original's form, and fit to print."""
    collapsed: list[int] = []
    position = images = 0
    while position < len(ids):
        if ids[position] != image_token_id:
            collapsed.append(ids[position])
            position += 1
            continue
        collapsed.append(COLLAPSED_IMAGE)
        position += _tokens_of(image_tokens, images)
        images += 1
    return collapsed
