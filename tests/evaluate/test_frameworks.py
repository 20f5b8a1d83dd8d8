"""Our checkpoints as models of lmms-eval and VLMEvalKit.

lmms-eval is the installed one where it is installed; else a stand-in with the two modules that our class touches
(`api.model.lmms`, `models.registry_v2.ModelManifest`), as lmms-eval 0.7.3 has them. VLMEvalKit is always a stand-in.
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from sightline.data.sample import ImageRef
from sightline.errors import ConfigError, DataError
from sightline.evaluate.frameworks.answering import Answerer, Asked, content_of
from sightline.infer.chat import ChatSession
from sightline.infer.sampling import Sampling
from tests.tiny_checkpoint import save_assistant, tiny_assistant

RED, BLUE = (Image.new("RGB", (20, 12), color) for color in ("red", "blue"))
OURS = "sightline.evaluate.frameworks"
ENTRY = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_assistant(tmp_path_factory.mktemp("frameworks") / "run", *tiny_assistant())


class StandIn:
    """lmms-eval's base class, as far as a model meets it."""

    is_simple = True

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}
        self.cache_hook = SimpleNamespace(add_partial=lambda *_: None)
        self.rank, self.world_size = 0, 1


@dataclass(frozen=True)
class StandInManifest:
    model_id: str
    simple_class_path: str


def modules(monkeypatch: pytest.MonkeyPatch, content: dict[str, dict[str, Any]]) -> None:
    for name, names in content.items():
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def lmms_eval(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if find_spec("lmms_eval") is None:
        modules(monkeypatch, {
            "lmms_eval": {}, "lmms_eval.api": {}, "lmms_eval.models": {},
            "lmms_eval.api.model": {"lmms": StandIn},
            "lmms_eval.models.registry_v2": {"ModelManifest": StandInManifest},
        })  # fmt: skip
    yield
    sys.modules.pop(f"{OURS}.lmms_model", None)


def loaded(path: str, *, separator: str) -> Any:
    module, _, name = path.rpartition(separator)
    return getattr(importlib.import_module(module), name)


def lmms_model(**options: Any) -> Any:
    """What `--model sightline` gets: the class that the entry point's manifest names."""
    manifest = loaded(ENTRY["lmms_eval.models"]["sightline"], separator=":")()
    assert manifest.model_id == "sightline"
    return loaded(manifest.simple_class_path, separator=".")(**options)


def request(number: int, text: str, **generation: Any) -> Any:
    return SimpleNamespace(args=(text, generation, lambda doc: doc["pictures"], number, "ours", "test"))


def test_lmms_eval_gets_what_a_conversation_answers(checkpoint: Path, lmms_eval: None) -> None:
    model = lmms_model(pretrained=str(checkpoint), batch_size=2, device="cpu")
    model.task_dict["ours"] = {
        "test": [{"pictures": [RED]}, {"pictures": []}, {"pictures": [BLUE, RED.convert("RGBA")]}]
    }
    texts = ["What is it?", "Say something longer than the others do.", "Which is red?"]
    requests = [request(n, text, max_new_tokens=6 - n, until=["\n\n"]) for n, text in enumerate(texts)]
    answers = model.generate_until([*requests, *requests])
    assert len(answers) == 6
    assert answers[:3] == answers[3:]
    assert (model.rank, model.world_size, model.batch_size, str(model.device)) == (0, 1, 2, "cpu")
    for n, (text, pictures) in enumerate(zip(texts, ([RED], [], [BLUE, RED]), strict=True)):
        session = ChatSession(*_assistant(checkpoint), sampling=Sampling(max_new_tokens=6 - n))
        assert answers[n] == session.ask(text, pictures).strip()


def _assistant(checkpoint: Path) -> Any:
    answerer = Answerer.of(str(checkpoint), device="cpu")
    return answerer.model, answerer.processor


def test_what_is_not_for_us_is_said_in_one_line(
    checkpoint: Path, lmms_eval: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = lmms_model(pretrained=str(checkpoint))
    model.task_dict["ours"] = {"test": [{"pictures": ["film.mp4"]}]}
    with pytest.raises(ConfigError, match="ours: shows str"):
        model.generate_until([request(0, "What?")])
    for method in ("loglikelihood", "generate_until_multi_round"):
        with pytest.raises(ConfigError, match="not for --model sightline"):
            getattr(model, method)([])
    with pytest.raises(ConfigError, match="batch_size: found 'auto'"):
        lmms_model(pretrained=str(checkpoint), batch_size="auto")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        lmms_model(pretrained=str(checkpoint))


def test_generation_arguments_of_tasks(lmms_eval: None) -> None:
    sampling_of = importlib.import_module(f"{OURS}.lmms_model").sampling_of
    assert sampling_of({}) == Sampling(max_new_tokens=1024, seed=0)
    assert sampling_of({"temperature": 0, "do_sample": False, "top_p": None, "num_beams": 1}) == sampling_of({})
    assert sampling_of({"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 16}) == Sampling(
        temperature=0.7, top_p=0.9, max_new_tokens=16, seed=0
    )
    assert sampling_of({"temperature": 0.7, "do_sample": False}).temperature == 0


def test_pictures_stand_at_their_marks_or_before_the_text() -> None:
    assert content_of(Asked("What?", [RED])) == (ImageRef(index=0), "\nWhat?")
    assert content_of(Asked("From <image> to <image>?", [RED, BLUE])) == (
        "From ", ImageRef(index=0), " to ", ImageRef(index=1), "?"
    )  # fmt: skip
    assert content_of(Asked("What is <image>?", [])) == ("What is <image>?",)
    with pytest.raises(DataError, match="2 <image> and 1 pictures"):
        content_of(Asked("<image> <image>", [RED]))


@pytest.fixture
def vlmeval(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    table: dict[str, Any] = {}
    modules(monkeypatch, {
        "vlmeval": {}, "vlmeval.vlm": {},
        "vlmeval.config": {"supported_VLM": table},
        "vlmeval.vlm.base": {"BaseModel": type("BaseModel", (), {"__init__": lambda self: None})},
    })  # fmt: skip
    yield table
    sys.modules.pop(f"{OURS}.vlmevalkit", None)


def test_vlmevalkit_finds_the_checkpoint_in_its_table(
    checkpoint: Path, vlmeval: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = importlib.import_module(f"{OURS}.vlmevalkit")
    script = tmp_path / "run.py"
    script.write_text("import sys\nfrom vlmeval.config import supported_VLM\nsupported_VLM['argv'] = sys.argv\n")
    monkeypatch.setattr(sys, "argv", sys.argv)
    shim.main([f"ours={checkpoint}", str(script), "--model", "ours"])
    assert vlmeval["argv"] == [str(script), "--model", "ours"]
    RED.save(tmp_path / "red.png")
    message = [{"type": "image", "value": str(tmp_path / "red.png")}, {"type": "text", "value": "What is it?"}]
    model = vlmeval["ours"](device="cpu", max_new_tokens=5)
    session = ChatSession(*_assistant(checkpoint), sampling=Sampling(max_new_tokens=5))
    assert model.generate_inner(message) == session.ask("What is it?", [RED]).strip()
    with pytest.raises(ConfigError, match="shows video"):
        model.generate_inner([{"type": "video", "value": "a.mp4"}])
    with pytest.raises(SystemExit, match="usage"):
        shim.main(["run.py"])
