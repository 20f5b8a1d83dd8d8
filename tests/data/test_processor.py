"""The processor: from a sample to tensors, from turns to a prompt, and back from what was saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.image import open_image
from sightline.data.processor import Processor, add_image_token, load_processor, load_tokenizer
from sightline.data.sample import ImageRef, Sample, Turn
from sightline.data.tokens import IGNORE
from sightline.errors import ConfigError, DataError
from tests.data.conversations import sample_of, turns_of
from tests.data.toy_tokenizers import FAMILIES
from tests.fakes import IMAGE_SIZE, PATCHES
from tests.tiny_checkpoint import tiny_processor

ONE = ((ImageRef(index=0), "\nWhat is shown?"), "A car.")
TWO = (("First ", ImageRef(index=0), " then ", ImageRef(index=1), "?"), "Both.", "And?", "No.")


def gradient(width: int, height: int) -> Image.Image:
    """No two pixels alike in a row or a column, and no symmetry."""
    row, column = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([row * 255 // height, column * 255 // width, 255 - row * 120 // height], axis=-1).astype(np.uint8)
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    gradient(50, 31).save(tmp_path / "wide.png")
    gradient(20, 70).save(tmp_path / "tall.png")
    return tmp_path


def with_images(sample: Sample, *names: str) -> Sample:
    return Sample(id="7", images=names, turns=sample.turns, source="data.json:7")


@pytest.fixture(scope="module")
def processor() -> Processor:
    return tiny_processor()


# ---- samples ---------------------------------------------------------------------------------------------------------


def test_example_has_a_placeholder_for_every_feature(processor: Processor, root: Path) -> None:
    example = processor.example(with_images(sample_of(*ONE), "wide.png"), root=root)
    assert example.id == "7"
    assert example.input_ids.dtype == example.labels.dtype == torch.int64
    assert example.input_ids.shape == example.labels.shape == (len(example.input_ids),)
    assert (example.pixels.dtype, example.pixels.shape) == (torch.float32, (1, 3, IMAGE_SIZE, IMAGE_SIZE))
    assert int((example.input_ids == processor.image_token_id).sum()) == PATCHES
    trained = example.labels != IGNORE
    assert torch.equal(example.labels[trained], example.input_ids[trained])
    assert processor.tokenizer.decode(example.labels[trained]) == "A car.<|im_end|>"
    assert processor.decode(example.labels[trained].tolist()) == "A car."


def test_several_pictures_come_in_the_order_of_the_conversation(processor: Processor, root: Path) -> None:
    forth = processor.example(with_images(sample_of(*TWO), "wide.png", "tall.png"), root=root)
    back = processor.example(with_images(sample_of(*TWO), "tall.png", "wide.png"), root=root)
    assert forth.pixels.shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert torch.equal(forth.pixels, processor.pixels([open_image(root / "wide.png"), open_image(root / "tall.png")]))
    assert not torch.equal(forth.pixels[0], forth.pixels[1])
    assert torch.equal(forth.pixels, back.pixels.flip(0))
    assert int((forth.input_ids == processor.image_token_id).sum()) == 2 * PATCHES


def test_a_sample_of_text_has_no_pictures(processor: Processor, root: Path) -> None:
    example = processor.example(with_images(sample_of("Is <image> a word?", "Yes.")), root=root)
    assert example.pixels.shape == (0, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert processor.image_token_id not in example.input_ids


@pytest.mark.parametrize("policy", ["pad", "crop"])
def test_a_picture_that_lies_on_its_side_is_seen_upright(policy: str, root: Path) -> None:
    """EXIF orientation 6: the camera was turned, the pixels were not."""
    upright = gradient(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(root / "turned.png", exif=exif)
    upright.save(root / "upright.png")
    processor = tiny_processor(image_policy=policy)
    seen = [
        processor.example(with_images(sample_of(*ONE), name), root=root).pixels
        for name in ("turned.png", "upright.png")
    ]
    assert torch.equal(*seen)


@pytest.mark.parametrize("policy", ["pad", "crop"])
def test_pixels_are_those_of_the_policy(policy: str, root: Path) -> None:
    processor = tiny_processor(image_policy=policy)
    picture = open_image(root / "wide.png")
    assert processor.transform.policy == policy
    assert torch.equal(processor.pixels([picture])[0], torch.from_numpy(processor.transform(picture)))
    corner = processor.pixels([picture])[0, :, 0, 0]
    assert bool((corner.abs() < 0.02).all()) == (policy == "pad"), "padding is the mean, which is zero when normalised"


def test_no_pictures_make_an_empty_tensor(processor: Processor) -> None:
    assert processor.pixels([]).shape == (0, 3, IMAGE_SIZE, IMAGE_SIZE)


@pytest.mark.parametrize(
    ("max_length", "sample", "reason"),
    [
        (PATCHES + 4, sample_of(*ONE), "image_tokens_truncated"),
        (PATCHES + 30, sample_of(("x " * 60, ImageRef(index=0)), "Yes."), "image_tokens_truncated"),
        (PATCHES + 60, sample_of((ImageRef(index=0), "\n" + "why " * 60), "Yes."), "no_supervised_tokens"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_with_its_place(max_length: int, sample: Sample, reason: str) -> None:
    with pytest.raises(DataError, match=r"^data\.json:7: ") as caught:
        tiny_processor(max_length=max_length).encode(sample)
    assert caught.value.reason == reason


def test_a_long_answer_is_cut_and_what_was_lost_is_counted(processor: Processor) -> None:
    sample = sample_of((ImageRef(index=0), "\nTell."), "word " * 100)
    whole = processor.encode(sample)
    cut = tiny_processor(max_length=80).encode(sample)
    assert (len(cut.ids), whole.lost) == (80, 0)
    assert cut.lost == len(whole.ids) - 80


@pytest.mark.parametrize("name", ["none.png", "../wide.png"])
def test_a_picture_that_cannot_be_opened_is_named(processor: Processor, root: Path, name: str) -> None:
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        processor.example(with_images(sample_of(*ONE), name), root=root)


# ---- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["own", "vicuna_v1"])
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_prompts_are_prefixes_of_the_training_ids(template: str, system: str | None) -> None:
    processor = tiny_processor(template=template)
    turns = turns_of(*TWO, "Why?", "So.")
    whole = processor.encode(Sample(id="x", images=("a", "b"), turns=turns, system=system)).ids
    for length in (1, 3, 5):
        prompt = processor.prompt(turns[:length], system=system)
        assert whole[: len(prompt)] == prompt


def test_a_prompt_is_never_truncated() -> None:
    """A conversation that is too long is for the model to refuse, which knows its context."""
    prompt = tiny_processor(max_length=40).prompt([Turn(role="user", content=("word " * 100,))])
    assert len(prompt) > 100


@pytest.mark.parametrize(
    ("family", "template", "stop"),
    [
        ("qwen2.5", "own", {"<|im_end|>"}),
        ("llama-3", "own", {"<|eot_id|>", "<|end_of_text|>"}),
        ("llama-2", "vicuna_v1", {"</s>"}),
        ("qwen2.5", "plain", set()),
    ],
)
def test_answers_end_at_the_templates_tokens(family: str, template: str, stop: set[str]) -> None:
    processor = tiny_processor(family, template=template)
    assert {processor.tokenizer.convert_ids_to_tokens(token) for token in processor.stop_ids} == stop
    assert processor.template.stop_text == (("\n",) if template == "plain" else ())


# ---- tokenizers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_placeholder_is_added_once_and_only_where_it_is_missing(family: str) -> None:
    tokenizer = FAMILIES[family]()
    before, had = len(tokenizer), "<image>" in tokenizer.get_added_vocab()
    token = add_image_token(tokenizer)
    assert len(tokenizer) == before + (not had)
    assert add_image_token(tokenizer) == token == tokenizer.convert_tokens_to_ids("<image>")
    assert len(tokenizer) == before + (not had)


def test_rows_are_filled_with_zero_where_the_tokenizer_names_no_padding() -> None:
    assert tiny_processor("qwen2.5").pad_id == 0
    processor = tiny_processor("qwen2.5")
    processor.tokenizer.pad_token = "<|endoftext|>"
    assert processor.pad_id == processor.tokenizer.convert_tokens_to_ids("<|endoftext|>") != 0


@pytest.mark.parametrize("content", [None, {}, {"tokenizer.json": "{"}, {"config.json": "{}"}])
def test_a_missing_tokenizer_is_one_line(tmp_path: Path, content: dict[str, str] | None) -> None:
    directory = tmp_path / "tongue"
    if content is not None:
        directory.mkdir()
        for name, text in content.items():
            (directory / name).write_text(text)
    with pytest.raises(ConfigError, match="no tokenizer at") as caught:
        load_tokenizer(str(directory))
    assert str(directory) in str(caught.value)
    assert "\n" not in str(caught.value)


STANDARD, OURS = "llava", "sightline"


@pytest.mark.parametrize(
    ("family", "model_type"),
    [(name, STANDARD) for name in FAMILIES]
    + [
        ("qwen2.5", OURS),
        ("llama-2", OURS),
        ("llama-2-legacy", OURS),
    ],
)
def test_what_was_saved_encodes_as_before(tmp_path: Path, family: str, model_type: str) -> None:
    """How a tokenizer is read depends on the model that the `config.json` beside it names."""
    processor = tiny_processor(family, image_policy="crop", max_length=321)
    processor.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    again = load_processor(tmp_path, json.loads(json.dumps(processor.describe())))
    assert again.settings == processor.settings
    assert (again.image_token_id, again.stop_ids) == (processor.image_token_id, processor.stop_ids)
    hostile = sample_of((ImageRef(index=0), "\n</s> <image> <|im_end|> é日😀"), " Yes.\n\n  two ", "ok?", "No.")
    assert again.encode(hostile) == processor.encode(hostile)
