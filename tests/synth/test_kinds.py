from __future__ import annotations

from pathlib import Path

import pytest

from sightline.errors import ConfigError
from sightline.synth.kinds import ORDER, copy_prompts, load_kinds

MINE = "form: pairs\nshows: [captions, boxes]\nsystem: Ask about colors.\n"


def test_the_package_brings_five_kinds() -> None:
    kinds = load_kinds()
    assert tuple(kinds) == ORDER
    assert kinds["conversation"].shows == ("captions",)
    assert all(kinds[name].shows == ("captions", "boxes") for name in ORDER if name != "conversation")
    assert kinds["vqa"].suffix == "Answer the question using a single word or phrase."
    assert len({kind.version for kind in kinds.values()}) == 5


def test_a_file_of_the_user_replaces_a_kind_or_adds_one(tmp_path: Path) -> None:
    (tmp_path / "detail.yaml").write_text(MINE)
    (tmp_path / "colors.yaml").write_text(MINE)
    kinds, own = load_kinds(tmp_path), load_kinds()
    assert kinds["detail"].system == "Ask about colors."
    assert kinds["colors"] == kinds["detail"]
    assert kinds["vqa"] == own["vqa"]


def test_any_change_of_a_kind_changes_its_version(tmp_path: Path) -> None:
    assert copy_prompts(tmp_path / "new") == [tmp_path / "new" / f"{name}.yaml" for name in ORDER]
    path = tmp_path / "new" / "detail.yaml"
    assert load_kinds(tmp_path / "new") == load_kinds()
    for old, new in (("prose", "poetry"), ("temperature: 0.7", "temperature: 0.6"), ("[captions, boxes]", "[boxes]")):
        before = load_kinds(tmp_path / "new")["detail"].version
        path.write_text(path.read_text().replace(old, new))
        assert load_kinds(tmp_path / "new")["detail"].version != before
    assert copy_prompts(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("form: [", "not YAML"),
        ("form: verse\nshows: [captions]\nsystem: x\n", "form: Input should be 'pairs' or 'answer'"),
        ("form: pairs\nshows: [pixels]\nsystem: x\ncolor: red\n", "color: Extra inputs"),
        ("form: pairs\nshows: []\nsystem: x\n", "shows"),
        ("form: answer\nshows: [captions]\nsystem: x\n", "questions: a kind of form answer needs some"),
        (MINE + "questions: [Why]\n", "one of form pairs has none"),
        (MINE + "words: [5, 3]\n", "words: found 5 to 3"),
        (MINE + "examples: [{context: A dog., reply: A dog.}]\n", "the reply of example 1"),
    ],
)
def test_a_kind_that_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_kinds(tmp_path)
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'mine.yaml'}: ")
    assert "\n" not in str(refused.value)


def test_a_folder_without_kinds_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--copy-prompts"):
        load_kinds(tmp_path)
