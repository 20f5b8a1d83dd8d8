"""From a directory to an assistant: what training wrote answers as before; anything else is refused in one line."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline import atomic
from sightline.ask.question import Message, Question
from sightline.errors import CheckpointError, ConfigError
from sightline.infer import load
from sightline.infer.chat import ChatSession
from sightline.infer.sampling import Sampling
from sightline.infer.teacher import CheckpointTeacher
from sightline.model.few_rows import FewRowsLinear
from sightline.model.quantize import SCHEMES
from tests.command_line import Captured, sightline
from tests.infer.test_chat import RED
from tests.tiny_checkpoint import save_assistant, tiny_assistant, tiny_processor

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes (the extra qlora) is not installed"
)


def answer_ids(model: Any, processor: Any) -> list[int]:
    session = ChatSession(model=model, processor=processor, sampling=Sampling(max_new_tokens=6))
    session.ask("What color is it?", [RED])
    assert session.last is not None
    return session.last.prompt_ids + session.last.answer_ids


@pytest.mark.parametrize(("family", "template"), [("qwen2.5", "own"), ("llama-2", "vicuna_v1")])
def test_a_saved_assistant_answers_as_before(tmp_path: Path, family: str, template: str) -> None:
    model, processor = tiny_assistant(family, template=template, image_policy="crop", max_length=99)
    loaded, again = load(save_assistant(tmp_path / "run", model, processor))
    assert again.settings == processor.settings
    assert not loaded.training
    assert answer_ids(loaded, again) == answer_ids(model, processor)


def test_a_loaded_language_model_is_quick_at_few_rows(tmp_path: Path) -> None:
    model, _ = load(save_assistant(tmp_path / "run", *tiny_assistant()))
    linear = [type(module) for module in model.language.modules() if isinstance(module, nn.Linear)]
    assert set(linear) == {FewRowsLinear}


def test_weights_come_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    model, _ = load(save_assistant(tmp_path / "run", *tiny_assistant()), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_chat_serve_and_teacher_load_in_bf16_on_a_gpu_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    directory = save_assistant(tmp_path / "run", *tiny_assistant())
    gpu = torch.device("cuda")
    asked: list[dict[str, Any]] = []

    def load_nothing(directory: Path, **options: Any) -> None:
        asked.append(options)
        raise CheckpointError("as far as this goes")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    for module in ("sightline.infer.load", "sightline.infer.teacher"):
        monkeypatch.setattr(importlib.import_module(module), "load", load_nothing)
    assert sightline("chat", directory, "--prompt", "What?") == 2
    assert sightline("serve", directory, "--port", 0, "--quantize", "nf4") == 2
    question = Question.of([Message("user", "What?")], model="checkpoint-x", kind="vqa", max_tokens=6)
    with pytest.raises(CheckpointError):
        asyncio.run(CheckpointTeacher(directory, images=tmp_path).reply(question, 0))
    assert [(options["device"], options["dtype"]) for options in asked] == [(gpu, torch.bfloat16)] * 3
    assert [options.get("quantize") for options in asked] == [None, "nf4", None]


def test_a_checkpoint_put_aside_by_a_killed_save_is_found(tmp_path: Path) -> None:
    model, processor = tiny_assistant()
    save_assistant(tmp_path / "run", model, processor).rename(tmp_path / ".run.old")
    assert answer_ids(*load(tmp_path / "run")) == answer_ids(model, processor)


def refused(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    assert "\n" not in str(caught.value)
    assert str(directory) in str(caught.value)
    return str(caught.value)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert "no such directory" in refused(tmp_path / "none")


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert "directory" in refused(tmp_path / "model.safetensors")


def test_an_empty_directory_is_no_checkpoint(tmp_path: Path) -> None:
    assert "not a Sightline checkpoint" in refused(tmp_path)


def edited(directory: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A checkpoint whose `info` was changed and sealed again."""
    save_assistant(directory, *tiny_assistant())
    header = json.loads((directory / "sightline.json").read_text())
    change(header["info"])
    (directory / "sightline.json").write_text(json.dumps(header))
    (directory / "manifest.json").unlink()
    atomic.write_manifest(directory)
    return directory


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda info: info.pop("processor"), id="none"),
        pytest.param(lambda info: info.update(processor=[]), id="a list"),
        pytest.param(lambda info: info["processor"].pop("image_mean"), id="without the mean"),
        pytest.param(lambda info: info["processor"].pop("max_length"), id="without the length"),
        pytest.param(lambda info: info["processor"].update(tiles=4), id="with a setting of a later version"),
        pytest.param(lambda info: info["processor"].update(image_mean=3), id="mean is a number"),
    ],
)
def test_processor_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    assert "processor settings" in refused(edited(tmp_path / "run", change))


def test_a_tokenizer_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    model, _ = tiny_assistant("qwen2.5")
    assert "not of one checkpoint" in refused(save_assistant(tmp_path / "run", model, tiny_processor("llama-3")))


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    weights = save_assistant(tmp_path / "run", *tiny_assistant()) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    assert "checksum" in refused(tmp_path / "run")


@needs_library
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_checkpoint_is_loaded_in_fewer_bits_and_still_answers(tmp_path: Path, scheme: str) -> None:
    directory = save_assistant(tmp_path / "run", *tiny_assistant())
    whole, processor = load(directory)
    packed, _ = load(directory, quantize=scheme)
    assert {parameter.dtype for parameter in packed.language.parameters()} & {torch.int8, torch.uint8}
    for part in ("vision", "connector"):
        for name, tensor in packed.parts()[part].state_dict().items():
            torch.testing.assert_close(tensor, whole.parts()[part].state_dict()[name], rtol=0, atol=0)
    assert len(answer_ids(packed, processor)) == len(answer_ids(whole, processor))


def test_a_quantisation_that_does_not_exist_is_named_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'^--quantize: "int4" is none of int8, nf4; did you mean "int8"\?$'):
        load(save_assistant(tmp_path / "run", *tiny_assistant()), quantize="int4")
