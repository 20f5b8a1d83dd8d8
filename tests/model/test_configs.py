import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from transformers import AutoConfig, CLIPConfig

from sightline.errors import ConfigError
from sightline.model.configs import CODE_KEYS, parse_config, portable_config, read_config
from tests.fakes import LANGUAGE_FAMILIES, VISION_FAMILIES, language_config, vision_config

ALL = {name: vision_config(name) for name in VISION_FAMILIES} | {
    name: language_config(name) for name in LANGUAGE_FAMILIES
}


def settings(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key not in ("_name_or_path", "dtype")}


@pytest.mark.parametrize("family", ALL)
def test_a_configuration_survives_being_written_and_read_by_the_closed_schema(family: str) -> None:
    config = AutoConfig.for_model(**ALL[family])
    written = json.loads(json.dumps(portable_config(config)))
    assert settings(parse_config(written, where="here", closed=True)) == settings(config)
    assert not [key for key in written if key.startswith("_")]


def test_the_rotary_base_is_written_where_older_software_looks() -> None:
    assert portable_config(AutoConfig.for_model(**language_config("qwen2")))["rope_theta"] == 1e6
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 64, "rope_theta": 5e5}
    config = AutoConfig.for_model(**language_config("llama", rope_parameters=scaling))
    written = portable_config(config)
    assert written["rope_theta"] == 5e5
    assert written["rope_scaling"]["factor"] == 8.0
    assert settings(parse_config(written, where="here", closed=True)) == settings(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "lama"}, "no model_type 'lama'; did you mean \"llama\""),
        ({"model_type": None}, "no model_type None"),
        ({"hiden_size": 3}, 'llama has no setting "hiden_size"; did you mean "hidden_size"'),
        ({"hidden_size": "big"}, "hidden_size"),
        ({"num_attention_heads": 5}, "multiple"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        *(({key: "org/code"}, key) for key in sorted(CODE_KEYS)),
    ],
)
def test_the_closed_schema_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config({**language_config("llama"), **change}, where="here", closed=True)
    assert str(caught.value).startswith("here: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", sorted(CODE_KEYS))
def test_the_open_schema_drops_what_would_run_code(key: str) -> None:
    content = {**language_config("llama"), key: "org/code", "some_old_setting": 1}
    config = parse_config(content, where="here", closed=False)
    assert getattr(config, key, None) is None
    assert config._attn_implementation is None
    assert config.some_old_setting == 1


def test_a_recipe_names_a_directory_a_file_or_the_settings_themselves(tmp_path: Path) -> None:
    content = language_config("qwen2")
    (tmp_path / "config.json").write_text(json.dumps(content))
    specs = [str(tmp_path), {"config": str(tmp_path)}, {"config": str(tmp_path / "config.json")}, {"config": content}]
    for spec in specs:
        assert settings(read_config(spec, part="language")) == settings(AutoConfig.for_model(**content))


def test_the_vision_side_of_a_full_model_is_taken(tmp_path: Path) -> None:
    full = CLIPConfig(vision_config=vision_config("clip"))
    full.save_pretrained(tmp_path)
    for spec in (str(tmp_path), {"config": {"model_type": "clip", "vision_config": vision_config("clip")}}):
        config = read_config(spec, part="vision")
        assert (config.model_type, config.hidden_size) == ("clip_vision_model", 32)
        with pytest.raises(ConfigError, match="has a vision side itself"):
            read_config(spec, part="language")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("/no/such/place", "language: no directory /no/such/place"),
        ("./models/llama", "language: no directory ./models/llama"),
        ("a/b/c", "no directory a/b/c"),
        ("~/models", "no directory ~/models"),
        ({"config": "/no/such/file.json"}, "cannot be read: No such file"),
        ({"path": "x"}, r"expected a path, a Hub id, or \{config: ...\}, found the keys \['path'\]"),
        ({"config": 3}, "expected a path"),
    ],
)
def test_what_is_not_there_is_named(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(spec, part="language")


def test_an_unreachable_hub_id_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"vision: no directory openai/clip-none here, .* Hub") as caught:
        read_config("openai/clip-none", part="vision")
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        read_config(str(tmp_path), part="vision")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not a JSON file"):
        read_config(str(tmp_path), part="vision")
    with pytest.raises(ConfigError, match="is a file"):
        read_config(str(tmp_path / "config.json"), part="vision")
