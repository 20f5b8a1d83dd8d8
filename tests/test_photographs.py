"""Real photographs through both stages: a dozen captions and dialogues are learnt until they come back word for word.

The parts are built from configurations, with random weights, so the language model has to learn to write here as well:
it trains in stage 1 too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedTokenizerFast

from sightline.cli import app, run
from sightline.data.image import open_image
from sightline.infer import load
from sightline.infer.chat import ChatSession
from sightline.infer.sampling import Sampling

SHARED = Path(__file__).parents[2] / "shared" / "parity" / "images"
LAKE, TAXIS = "waterview.jpg", "extreme_ironing.jpg"

VISION = {
    "model_type": "clip_vision_model",
    "image_size": 56,
    "patch_size": 14,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
LANGUAGE = {
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.06,
}
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

PHOTOGRAPHED = {
    LAKE: "A wooden pier runs straight out into a quiet lake below pale clouds.",
    TAXIS: "A man in a yellow sweater irons a blue shirt at the back of a yellow car.",
}
"""The photographs as they are."""
DERIVED = {
    "portrait.jpg": "An upright picture: planks lead to the far shore.",
    "grey.jpg": "The same street without any colors.",
    "palette.png": "Dark firs and a mountain on the left side of the water.",
    "cutout.png": "Somebody cut the man out of the street.",
}
"""Made from them: turned by EXIF, grey, with a palette, with transparency."""

ALIGN_STEPS, INSTRUCT_STEPS = 100, 120

Talk = list[tuple[str, str]]
TALKS: list[tuple[tuple[str, ...], Talk]] = [
    ((LAKE,), [("What is the weather like?", "Cloudy, but calm."), ("Is anybody there?", "No, nobody can be seen.")]),
    ((LAKE,), [("What is the pier made of?", "Of wooden planks, gray from the weather.")]),
    ((TAXIS,), [("What is he doing?", "He irons a shirt."), ("Where?", "On a board behind a car."),
                ("Is that usual?", "Not at all, most people iron at home.")]),
    ((TAXIS,), [("Which color are the cars?", "Both are yellow."), ("And the shirt on the board?", "It is blue.")]),
    (("portrait.jpg",), [("Is it tall or wide?", "It is taller than wide.")]),
    (("grey.jpg",), [("Which color are the cars?", "There are no colors, the picture is gray.")]),
    (("palette.png",), [("What grows there?", "A forest of firs.")]),
    (("cutout.png",), [("What is around the man?", "Nothing, it was cut away.")]),
    (("portrait.jpg", "grey.jpg"), [("Where is more traffic?", "In the second picture."),
                                    ("Why?", "It shows a street.")]),
    ((), [("Hello!", "Hello. Show me a picture.")]),
]  # fmt: skip

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the two photographs are not here: no folder {SHARED}")


def derive(folder: Path) -> None:
    """Pictures as cameras and programs leave them: on their side, without color, with a palette, with holes."""
    with Image.open(SHARED / LAKE) as lake, Image.open(SHARED / TAXIS) as taxis:
        exif = Image.Exif()
        exif[0x0112] = 6
        tall = lake.crop((330, 170, 730, 667))
        tall.transpose(Image.Transpose.ROTATE_90).save(folder / "portrait.jpg", exif=exif, quality=95)
        taxis.convert("L").save(folder / "grey.jpg")
        lake.crop((0, 150, 420, 480)).quantize(64).save(folder / "palette.png")
        mask = Image.new("L", taxis.size, 0)
        ImageDraw.Draw(mask).ellipse((230, 30, 370, 320), fill=255)
        cutout = taxis.copy()
        cutout.putalpha(mask)
        cutout.save(folder / "cutout.png")


def train_tokenizer(texts: Sequence[str], directory: Path) -> int:
    """A byte-level BPE of the captions' own words, with a chat template; the number of its tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*texts, "user\nassistant\n"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT
    )
    fast.save_pretrained(directory)
    return len(fast)


def sample(number: int, images: tuple[str, ...], talk: Talk) -> dict[str, Any]:
    """LLaVA JSON; one picture as a name, several as a list."""
    turns = []
    for position, (question, answer) in enumerate(talk):
        marks = "<image>\n" * (len(images) if position == 0 else 0)
        turns += [{"from": "human", "value": marks + question}, {"from": "gpt", "value": answer}]
    shown = {} if not images else {"image": images[0] if len(images) == 1 else list(images)}
    return {"id": str(number), **shown, "conversations": turns}


def write_data(folder: Path) -> None:
    """For each stage one file about the photographs where they lie, and one about those in `folder`."""
    captions = [((name,), [("Describe the picture.", text)]) for name, text in {**PHOTOGRAPHED, **DERIVED}.items()]
    for stage, talks in (("align", captions), ("instruct", TALKS)):
        samples = [(images, sample(number, images, talk)) for number, (images, talk) in enumerate(talks)]
        for place, wanted in (("there", True), ("here", False)):
            chosen = [found for images, found in samples if (images[:1] in ((LAKE,), (TAXIS,))) == wanted]
            (folder / f"{stage}_{place}.json").write_text(json.dumps(chosen))


def write_recipe(folder: Path, stage: str, **settings: Any) -> Path:
    sources = [{"path": f"{folder}/{stage}_there.json", "images": str(SHARED)}, {"path": f"{folder}/{stage}_here.json"}]
    recipe = {
        "name": stage,
        "output": f"{folder}/{stage}",
        "data": sources,
        "max_length": 512,
        **settings,
    }
    path = folder / f"{stage}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def schedule(steps: int, batch: int) -> dict[str, Any]:
    return {
        "lr": {"connector": 3e-3, "language": 3e-3}, "steps": steps, "batch": batch, "schedule": "cosine",
        "warmup": 0.05, "log_every": 20, "save_every": 1000, "device": "cpu",
    }  # fmt: skip


def picture(name: str, folder: Path) -> Image.Image:
    return open_image((SHARED if name in PHOTOGRAPHED else folder) / name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures and what the two commands made: `align` and `instruct`."""
    folder = tmp_path_factory.mktemp("photographs")
    derive(folder)
    write_data(folder)
    texts = [
        *PHOTOGRAPHED.values(),
        *DERIVED.values(),
        *(words for _, talk in TALKS for pair in talk for words in pair),
    ]
    rows = train_tokenizer(texts, folder / "tokenizer")
    parts = {
        "vision": {"config": VISION},
        "language": {"config": {**LANGUAGE, "vocab_size": rows}},
        "tokenizer": str(folder / "tokenizer"),
        "fresh_connector": True,
    }
    stages = {
        "align": {"model": parts, "template": "plain", "image_policy": "crop", "train": schedule(ALIGN_STEPS, 6)},
        "instruct": {
            "model": {"start": f"{folder}/align"},
            "template": "own",
            "image_policy": "pad",
            "train": schedule(INSTRUCT_STEPS, 10),
        },
    }
    for stage, settings in stages.items():
        assert run(partial(app, args=["train", str(write_recipe(folder, stage, **settings))])) == 0
    return folder


def chat(directory: Path) -> ChatSession:
    model, processor = load(directory)
    return ChatSession(model=model, processor=processor, sampling=Sampling(max_new_tokens=60))


def test_captions_come_back_word_for_word_after_align(trained: Path) -> None:
    session = chat(trained / "align")
    for name, caption in {**PHOTOGRAPHED, **DERIVED}.items():
        session.reset()
        assert session.ask("Describe the picture.", [picture(name, trained)]) == caption


def test_dialogues_come_back_word_for_word_after_instruct(trained: Path) -> None:
    session = chat(trained / "instruct")
    for images, talk in TALKS:
        session.reset()
        shown = [picture(name, trained) for name in images]
        for question, answer in talk:
            assert session.ask(question, shown) == answer
            shown = []


def test_the_same_directory_answers_in_transformers(trained: Path) -> None:
    """Its own model class, its own processor, its own generation: nothing of ours."""
    model = AutoModelForImageTextToText.from_pretrained(trained / "instruct").eval()
    processor = AutoProcessor.from_pretrained(trained / "instruct")
    for images, talk in TALKS:
        question, answer = talk[0]
        messages = [{"role": "user", "content": "<image>\n" * len(images) + question}]
        text = processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        pictures = [picture(name, trained) for name in images] or None
        inputs = processor(text=text, images=pictures, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=60, do_sample=False)
        assert processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True) == answer
