"""The saved checkpoint under `transformers.AutoProcessor`: the same ids and the same pixels as ours."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor

from sightline.data.hub_processor import token_selection
from sightline.data.processor import Processor, ProcessorSettings
from sightline.data.sample import ImageRef, Turn, canonical_content
from tests.data.conversations import COMBINATIONS
from tests.data.original import llama, needs_llama
from tests.data.toy_tokenizers import FAMILIES
from tests.fakes import IMAGE_SIZE, PATCHES
from tests.tiny_checkpoint import SETTINGS, save_assistant, tiny_assistant, tiny_processor

CHATML_WITH_PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALK: list[tuple[str, list[str]]] = [
    ("user", ["image", "What is shown?"]),
    ("assistant", ["A car on the street."]),
    ("user", ["And here, what colour?"]),
    ("assistant", ["Yellow."]),
    ("user", ["image", "Is it safe?"]),
]

# The dummy space of sentencepiece: transformers puts it before a whole text only, we put it, as the original does,
# before the text on each side of a picture as well. With `legacy: true` the two agree. The chat templates that we write
# have the space in them; a tokenizer's own has not.
SPACE_AFTER_PICTURE = {"llama-2", "mistral", "phi-3"}
AGREEING = [name for name in FAMILIES if name not in SPACE_AFTER_PICTURE]
WRITTEN = [pair for pair in COMBINATIONS if pair[0] != "own"]


def picture(width: int, height: int) -> Image.Image:
    """A photograph's kind of content: smooth, with an edge and some noise."""
    row, column = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(width).integers(0, 40, (height, width, 3))
    waves = 100 + 90 * np.sin(row / 7)[..., None] * np.cos(column / 5)[..., None] + 30 * (column > width / 3)[..., None]
    return Image.fromarray(np.clip(waves + noise, 0, 255).astype(np.uint8))


def our_ids(processor: Processor, *, turns: int = len(TALK), system: str | None = None) -> list[int]:
    found: list[Turn] = []
    pictures = 0
    for role, pieces in TALK[:turns]:
        content: list[str | ImageRef] = []
        for piece in pieces:
            content.append(ImageRef(index=pictures) if piece == "image" else piece)
            pictures += piece == "image"
        found.append(Turn(role="user" if role == "user" else "assistant", content=canonical_content(content)))
    return processor.prompt(found, system=system)


def messages(*, turns: int = len(TALK), as_text: bool, system: str | None = None) -> list[dict[str, Any]]:
    """The same turns for transformers: content parts, or strings with `<image>` where a picture goes."""
    found: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    for role, pieces in TALK[:turns]:
        if as_text:
            content: Any = "".join("<image>\n" if piece == "image" else piece for piece in pieces)
        else:
            content = [{"type": "image"} if piece == "image" else {"type": "text", "text": piece} for piece in pieces]
        found.append({"role": role, "content": content})
    return found


def closed(talk: list[tuple[str, list[str]]]) -> tuple[list[Turn], list[dict[str, Any]]]:
    """Turns for us and messages for transformers."""
    turns, found, pictures = [], [], 0
    for role, pieces in talk:
        content: list[str | ImageRef] = []
        for piece in pieces:
            content.append(ImageRef(index=pictures) if piece == "image" else piece)
            pictures += piece == "image"
        turns.append(Turn(role="user" if role == "user" else "assistant", content=canonical_content(content)))
        parts = [{"type": "image"} if piece == "image" else {"type": "text", "text": piece} for piece in pieces]
        found.append({"role": role, "content": parts})
    return turns, found


def their_ids(hub: Any, talk: list[dict[str, Any]], *, pictures: int) -> list[int]:
    text = hub.tokenizer.apply_chat_template(
        talk, tokenize=False, add_generation_prompt=True, chat_template=hub.chat_template or hub.tokenizer.chat_template
    )
    bos = hub.tokenizer.bos_token
    images = [picture(30, 20) for _ in range(pictures)]
    batch = hub(text=text, images=images, add_special_tokens=not (bos and text.startswith(bos)))
    return [int(token) for token in batch["input_ids"][0]]


def saved(directory: Path, processor: Processor) -> Any:
    """What transformers makes of a processor in a checkpoint, where a model lies beside it."""
    processor.save(directory)
    (directory / "config.json").write_text('{"model_type": "llava"}')
    return AutoProcessor.from_pretrained(directory)


# ---- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [None, "Be brief.", ""])
@pytest.mark.parametrize(("template", "family"), WRITTEN)
def test_prompts_of_the_templates_that_we_write_are_ours(
    tmp_path: Path, template: str, family: str, system: str | None
) -> None:
    processor = tiny_processor(family, template=template)
    hub = saved(tmp_path, processor)
    for turns, pictures in ((1, 1), (3, 1), (5, 2)):
        for as_text in (False, True):
            talk = messages(turns=turns, as_text=as_text, system=system)
            assert their_ids(hub, talk, pictures=pictures) == our_ids(processor, turns=turns, system=system)


@pytest.mark.parametrize(("template", "family"), WRITTEN)
def test_odd_turns_are_written_as_ours(tmp_path: Path, template: str, family: str) -> None:
    """A picture alone, after its words or between them; spaces and newlines at the ends of words."""
    processor = tiny_processor(family, template=template)
    hub = saved(tmp_path, processor)
    odd: list[tuple[str, list[str]]] = [
        ("user", ["image"]),
        ("assistant", [" two  spaces \n"]),
        ("user", [" What \n", "image", " is it? "]),
        ("assistant", ["Yellow."]),
        ("user", ["  Is it\n\nsafe? "]),
    ]
    if template == "phi":  # its tokens swallow the spaces after them in a rendered text, and nobody's words with us
        odd[1], odd[4] = ("assistant", ["two  spaces \n"]), ("user", ["Is it\n\nsafe? "])
    for length, pictures in ((1, 1), (3, 2), (5, 2)):
        turns, talk = closed(odd[:length])
        assert their_ids(hub, talk, pictures=pictures) == processor.prompt(turns)


@pytest.mark.parametrize("family", [name for name in AGREEING if name != "llama-3.2"])  # it writes today's date
def test_prompts_of_the_tokenizers_own_template_are_ours(tmp_path: Path, family: str) -> None:
    processor = tiny_processor(family)
    hub = saved(tmp_path, processor)
    for turns, pictures in ((1, 1), (3, 1), (5, 2)):
        talk = messages(turns=turns, as_text=True)
        assert their_ids(hub, talk, pictures=pictures) == our_ids(processor, turns=turns)


def test_apply_chat_template_does_it_in_one_call(tmp_path: Path) -> None:
    """Where the tokenizer's template knows content parts, as transformers documents it for pictures."""
    for number, template in enumerate(("own", "vicuna_v1")):
        tokenizer = FAMILIES["qwen2.5"]()
        tokenizer.chat_template = CHATML_WITH_PARTS
        processor = Processor(tokenizer, tiny_processor("qwen2.5", template=template).settings)
        hub = saved(tmp_path / str(number), processor)
        talk = messages(turns=1, as_text=False)
        talk[0]["content"][0] = {"type": "image", "image": picture(33, 21)}
        batch = hub.apply_chat_template(talk, tokenize=True, add_generation_prompt=True, return_dict=True)
        assert np.array(batch["input_ids"])[0].tolist() == our_ids(processor, turns=1)
        assert np.array(batch["pixel_values"]).shape == (1, 3, IMAGE_SIZE, IMAGE_SIZE)


@pytest.mark.parametrize("family", sorted(SPACE_AFTER_PICTURE))
def test_with_the_tokenizers_own_template_and_without_legacy_only_dummy_spaces_differ(
    tmp_path: Path, family: str
) -> None:
    processor = tiny_processor(family, template="own")
    hub = saved(tmp_path, processor)

    def words(ids: list[int]) -> str:
        return "".join(hub.tokenizer.convert_ids_to_tokens(ids)).replace("▁", "")

    assert words(their_ids(hub, messages(as_text=True), pictures=2)) == words(our_ids(processor))


@needs_llama
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("template", ["vicuna_v1", "v0", "llava_llama_2", "mistral_instruct", "mpt"])
def test_with_llamas_own_tokenizer_prompts_are_ours_too(tmp_path: Path, template: str, legacy: bool) -> None:
    processor = Processor(copy.deepcopy(llama(legacy)), replace(SETTINGS, template=template))
    hub = saved(tmp_path, processor)
    for talk in (TALK, [("user", ["image"]), ("assistant", ["So.  It is"]), ("user", ["And  now?"])]):
        turns, found = closed(talk)
        pictures = sum(pieces.count("image") for _, pieces in talk)
        assert their_ids(hub, found, pictures=pictures) == processor.prompt(turns)


def test_the_chat_template_is_written_where_ours_is_not_the_tokenizers(tmp_path: Path) -> None:
    own = saved(tmp_path / "own", tiny_processor("qwen2.5", template="own"))
    plain = saved(tmp_path / "plain", tiny_processor("qwen2.5", template="plain"))
    vicuna = saved(tmp_path / "vicuna", tiny_processor("qwen2.5", template="vicuna_v1"))
    assert own.tokenizer.chat_template == plain.tokenizer.chat_template == FAMILIES["qwen2.5"]().chat_template
    assert " ASSISTANT:" in vicuna.chat_template


# ---- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(50, 31), (31, 50), (33, 33), (64, 64), (7, 90), (301, 200), (32, 32), (15, 16)])
@pytest.mark.parametrize("policy", ["pad", "crop"])
def test_pixels_are_ours_to_one_level_of_eight_bits(tmp_path: Path, policy: str, size: tuple[int, int]) -> None:
    processor = tiny_processor(image_policy=policy)
    hub = saved(tmp_path, processor)
    image = picture(*size)
    theirs = torch.as_tensor(np.array(hub.image_processor(images=[image])["pixel_values"]))
    ours = processor.pixels([image])
    assert theirs.shape == ours.shape
    std = torch.tensor(SETTINGS.image_std)[:, None, None]
    assert float(((theirs - ours) * std).abs().max()) <= 1 / 255 + 1e-6


def test_older_readers_find_the_same_settings(tmp_path: Path) -> None:
    processor = tiny_processor(image_policy="crop")
    processor.save(tmp_path)
    (tmp_path / "processor_config.json").unlink()
    image = picture(51, 40)
    theirs = AutoImageProcessor.from_pretrained(tmp_path)(images=[image])["pixel_values"]
    torch.testing.assert_close(torch.as_tensor(np.array(theirs)), processor.pixels([image]), atol=0.02, rtol=0)


# ---- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix_tokens", "kept", "strategy", "additional"),
    [
        pytest.param(0, 0, "full", 0, id="no class token"),
        pytest.param(1, 0, "default", 1, id="class token dropped"),
        pytest.param(1, 1, "full", 1, id="class token kept"),
        pytest.param(4, 4, "full", 4, id="registers kept"),
        pytest.param(4, 0, "full", 0, id="registers dropped"),
    ],
)
def test_placeholders_are_counted_as_the_encoder_does(
    tmp_path: Path, prefix_tokens: int, kept: int, strategy: str, additional: int
) -> None:
    settings = {"num_prefix_tokens": prefix_tokens, "image_tokens": PATCHES + kept}
    processor = tiny_processor("qwen2.5", **settings)
    assert token_selection(processor.settings) == {
        "vision_feature_select_strategy": strategy,
        "num_additional_image_tokens": additional,
    }
    hub = saved(tmp_path, processor)
    ids = np.array(hub(text="<image>\nWhat?", images=[picture(40, 20)])["input_ids"])
    assert int((ids == processor.image_token_id).sum()) == PATCHES + kept


@pytest.mark.parametrize(("size", "patch", "patches"), [(336, 14, 576), (224, 16, 196), (96, 12, 64)])
def test_selection_counts_patches_of_any_grid(size: int, patch: int, patches: int) -> None:
    fields = {name: getattr(SETTINGS, name) for name in ("template", "image_policy", "image_mean", "image_std")}
    settings = ProcessorSettings(
        **fields, image_size=size, patch_size=patch, image_tokens=patches, num_prefix_tokens=1, max_length=64
    )
    assert token_selection(settings)["vision_feature_select_strategy"] == "default"


def test_a_whole_checkpoint_is_loaded_by_its_directory_alone(tmp_path: Path) -> None:
    model, processor = tiny_assistant("qwen2.5", template="vicuna_v1", image_policy="crop")
    directory = save_assistant(tmp_path / "run", model, processor)
    hub = AutoProcessor.from_pretrained(directory)
    assert type(hub).__name__ == "LlavaProcessor"
    assert their_ids(hub, messages(as_text=False), pictures=2) == our_ids(processor)
    listed = json.loads((directory / "manifest.json").read_text())["files"]
    assert {"processor_config.json", "preprocessor_config.json", "tokenizer.json", "chat_template.jinja"} <= set(listed)
