"""What a conversation remembers: each answer is the one without memory, and nothing is computed twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sightline.infer.chat import ChatSession
from sightline.infer.memory import Memory, common_prefix
from sightline.infer.sampling import Sampling
from tests.fakes import PATCHES
from tests.tiny_checkpoint import tiny_assistant

RED, BLUE = Image.new("RGB", (40, 30), (200, 30, 30)), Image.new("RGB", (25, 60), (30, 30, 200))
TALK: list[tuple[str, list[Image.Image]]] = [
    ("What is it?", [RED]),
    ("And now?", []),
    (" two\nlines ", [BLUE, RED]),
    ("Which of them?", []),
]


class Watched:
    """A session, and what went through its model: positions and pictures, turn by turn."""

    def __init__(self, family: str = "qwen2.5", *, system: str | None = None, tokens: int = 6, **options: Any) -> None:
        self.model, self.processor = tiny_assistant(family, **options)
        sampling = Sampling(max_new_tokens=tokens)
        self.session = ChatSession(model=self.model, processor=self.processor, sampling=sampling, system=system)
        self.positions: list[int] = []
        self.pictures = 0
        decode, vision = self.model.decode, self.model.vision.forward

        def watched_decode(inputs: Tensor, *arguments: Any, **keys: Any) -> Any:
            self.positions.append(inputs.shape[1])
            return decode(inputs, *arguments, **keys)

        def watched_vision(pixels: Tensor) -> Tensor:
            self.pictures += len(pixels)
            found: Tensor = vision(pixels)
            return found

        self.model.decode = watched_decode  # type: ignore[method-assign]
        self.model.vision.forward = watched_vision  # type: ignore[method-assign]

    def ask(self, text: str, pictures: list[Image.Image]) -> tuple[list[int], int]:
        """The answer's ids, and how many positions of the prompt were computed for it."""
        self.positions.clear()
        self.session.ask(text, pictures)
        assert self.session.last is not None
        return self.session.last.answer_ids, self.positions[0]

    def ask_anew(self, text: str, pictures: list[Image.Image]) -> list[int]:
        """The same question to a session that remembers the words alone. It changes nothing."""
        fresh = ChatSession(
            model=self.model,
            processor=self.processor,
            sampling=self.session.sampling,
            system=self.session.system,
            turns=list(self.session.turns),
            pictures=list(self.session.pictures),
        )
        fresh.ask(text, pictures)
        assert fresh.last is not None
        return fresh.last.answer_ids


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize(
    ("family", "template", "language", "options"),
    [
        ("qwen2.5", "own", "llama", {}),
        ("qwen3", "own", "qwen3", {}),
        ("llama-3", "own", "llama", {}),
        ("mistral", "own", "mistral", {}),
        ("mistral", "own", "mistral", {"sliding_window": 24}),
        ("gemma", "own", "gemma2", {"sliding_window": 24}),
        ("phi-3", "own", "phi3", {}),
        ("llama-2", "vicuna_v1", "llama", {}),
        ("llama-2-legacy", "llama_2", "llama", {}),
    ],
)
def test_every_answer_is_the_one_without_memory(
    family: str, template: str, language: str, options: dict[str, Any], system: str | None
) -> None:
    talk = Watched(family, template=template, language=language, system=system, language_options=options)
    for text, pictures in TALK:
        wanted = talk.ask_anew(text, pictures)
        talk.pictures = 0
        found, _ = talk.ask(text, pictures)
        assert found == wanted
        assert talk.pictures == len(pictures), "each picture goes through the encoder once"


def test_a_turn_computes_only_what_is_new() -> None:
    talk = Watched()
    lengths, computed = [], []
    for text, pictures in TALK:
        found, positions = talk.ask(text, pictures)
        lengths.append(len(talk.session._memory.ids) - len(found) + 1)  # type: ignore[union-attr]
        computed.append(positions)
    assert computed[0] == lengths[0]
    assert all(
        new < whole / 2 for new, whole in zip(computed[1:2] + computed[3:], lengths[1:2] + lengths[3:], strict=True)
    )
    assert computed[2] < 2 * PATCHES + 60, "the first picture and the first two turns are not among them"


def test_reset_forgets_everything() -> None:
    talk = Watched()
    first, whole = talk.ask("What is it?", [RED])
    talk.session.reset()
    assert talk.ask("What is it?", [RED]) == (first, whole)
    assert talk.pictures == 2


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_error_in_the_middle_of_an_answer_leaves_a_memory_that_is_right(
    after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between two layers of a step: the first layer has one position more than the second."""
    talk = Watched()
    talk.ask("What is it?", [RED])
    layer, calls = talk.model.language.model.layers[1], 0
    forward = layer.forward

    def interrupted(*arguments: Any, **keys: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return forward(*arguments, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            talk.ask("And now?", [BLUE])
    assert len(talk.session.turns) == 2
    for text, pictures in (("And now?", [RED]), ("Why?", [])):
        wanted = talk.ask_anew(text, pictures)
        assert talk.ask(text, pictures)[0] == wanted


def test_an_answer_that_nobody_waits_for_leaves_a_memory_that_is_right() -> None:
    talk = Watched()
    stream = talk.session.stream("What is it?", [RED])
    next(stream)
    stream.close()
    wanted = talk.ask_anew("What is it then?", [BLUE])
    assert talk.ask("What is it then?", [BLUE])[0] == wanted


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([], [], 0),
        ([1], [], 0),
        ([1, 2, 3], [1, 2, 3], 3),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2, 3], [1, 9, 3], 1),
        ([2], [1], 0),
    ],
)
def test_common_prefix_is_what_two_lists_begin_with(first: list[int], second: list[int], expected: int) -> None:
    assert common_prefix(first, second) == expected == common_prefix(second, first)


@pytest.mark.parametrize(
    ("pictures", "ids"), [(2, [1, 9, 9, 5, 9, 9, 6]), (1, [1, 9, 9, 5]), (0, [1])], ids=["both", "the first", "none"]
)
def test_pictures_are_forgotten_with_all_that_follows_them(pictures: int, ids: list[int]) -> None:
    memory = Memory(image_tokens=2, ids=[1, 9, 9, 5, 9, 9, 6], features=torch.zeros(2, 2, 3))
    memory.keep_pictures(pictures, image_token_id=9)
    assert memory.ids == ids
    assert memory.pictures == pictures


def test_a_prompt_that_was_seen_in_full_has_one_position_left() -> None:
    memory = Memory(image_tokens=2, ids=[1, 2, 3])
    assert memory.resume([1, 2, 3]) == 0, "there is no cache"
    assert memory.ids == []
