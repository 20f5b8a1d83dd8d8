"""Recipes from files and overrides: what is accepted, and what every mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sightline.config import dump_recipe, fingerprint, load_recipe
from sightline.errors import ConfigError

ROOT = Path(__file__).parents[1]
RECIPE = """\
name: small
output: runs/small
model: {vision: eye, language: tongue}
data: [{path: data.json}]
train: {lr: {connector: 1e-3}, epochs: 1}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


def test_recipe_survives_writing_and_reading(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file, ["train.batch=64", "train.betas=[0.9, 0.95]", "data.0.images=pictures"])
    again = tmp_path / "again.yaml"
    again.write_text(dump_recipe(recipe))
    assert load_recipe(again) == recipe


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr.connector=2e-4", {"connector": 2e-4}),
        ("train.lr={connector: 1e-3, vision: 2e-6}", {"connector": 1e-3, "vision": 2e-6}),
        ("train.lr.vision=0.5", {"connector": 1e-3, "vision": 0.5}),
    ],
)
def test_override_sets_a_rate(recipe_file: Path, override: str, expected: dict[str, float]) -> None:
    assert load_recipe(recipe_file, [override]).train.lr == expected


def test_override_appends_to_a_list_one_past_its_end(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file, ["data.1.path=more.json", "data.0.path=first.json"])
    assert [source.path for source in recipe.data] == ["first.json", "more.json"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        pytest.param(["train.lr.conector=1e-3"], ["train.lr.conector", "connector", "language"], id="70-part-typo"),
        pytest.param(["train.batc=3"], ["train.batc", "unknown key", '"batch"'], id="70-key-typo"),
        pytest.param(["trian.lr=3"], ["trian", '"train"'], id="70-section-typo"),
        pytest.param(["train.lr.connector=-1"], ["train.lr.connector", "-1", "greater than 0"], id="71-negative-rate"),
        pytest.param(["train.lr.connector=0"], ["train.lr.connector", "greater than 0"], id="71-zero-rate"),
        pytest.param(["train.lr.connector=.nan"], ["train.lr.connector", "nan"], id="71-nan-rate"),
        pytest.param(["train.lr.connector=.inf"], ["train.lr.connector", "inf"], id="71-infinite-rate"),
        pytest.param(["train.lr.connector=fast"], ["train.lr.connector", "'fast'", "number"], id="71-rate-is-text"),
        pytest.param(["train.batch=0"], ["train.batch", "1"], id="71-zero-batch"),
        pytest.param(["train.batch=2.5"], ["train.batch", "2.5"], id="71-fractional-batch"),
        pytest.param(["train.schedule=cosin"], ["train.schedule", "'cosin'", '"cosine"'], id="71-schedule-typo"),
        pytest.param(["train.warmup=1.5"], ["train.warmup", "1.5"], id="71-warmup-above-one"),
        pytest.param(["seed=-1"], ["seed", "-1"], id="71-negative-seed"),
        pytest.param(["train.lr.language=1e-5"], ["language", "connector is new", "model.start"], id="72-no-projector"),
        pytest.param(["train.lr={}"], ["lr is empty", "nothing would train"], id="74-nothing-trains"),
        pytest.param(["train.batch=10", "train.micro_batch=4"], ["10", "4", "multiple"], id="75-not-divisible"),
        pytest.param(["model.start=runs/x"], ["start", "language", "vision"], id="two-origins"),
        pytest.param(["model.vision=null"], ["vision missing"], id="no-vision"),
        pytest.param(["train.steps=5"], ["exactly one", "epochs", "steps"], id="epochs-and-steps"),
        pytest.param(["train.lora={rank: 8}"], ["lora", "lr.language"], id="lora-without-rate"),
        pytest.param(["name=../x"], ["name", "'../x'"], id="name-is-a-path"),
        pytest.param(["data=[]"], ["data", "1"], id="no-data"),
        pytest.param(["data.3.path=x"], ["data.3", "'3'"], id="index-past-the-end"),
        pytest.param(["batch"], ["'batch'", "key.path=value"], id="override-without-equals"),
        pytest.param(["max_length=3"], ["max_length", "16"], id="tiny-context"),
    ],
)
def test_mistake_is_one_line_that_names_key_and_remedy(
    recipe_file: Path, overrides: list[str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe_file, overrides)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_all_mistakes_are_named_at_once(recipe_file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe_file, ["train.batch=0", "seed=x", "image_policy=squash"])
    for key in ("train.batch", "seed", "image_policy"):
        assert key in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("a: [", ["not valid YAML"], id="broken"),
        pytest.param("- a\n- b", ["list", "mapping"], id="a-list"),
        pytest.param(RECIPE + "name: other\n", ["name", "twice"], id="repeated-key"),
        pytest.param("", ["NoneType", "mapping"], id="empty"),
    ],
)
def test_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml.*no such recipe"):
        load_recipe(tmp_path / "none.yaml")


def test_fingerprint_ignores_where_and_how_fast_but_not_what(recipe_file: Path) -> None:
    mark = fingerprint(load_recipe(recipe_file))
    for same in (
        "output=elsewhere",
        "train.micro_batch=2",
        "train.workers=3",
        "train.save_every=7",
        "train.feature_cache=features",
        "train.feature_cache_policy=always",
    ):
        assert fingerprint(load_recipe(recipe_file, [same])) == mark
    for other in ("seed=1", "train.lr.connector=2e-3", "train.batch=64", "template=plain"):
        assert fingerprint(load_recipe(recipe_file, [other])) != mark


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes").glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_recipe_loads(path: Path) -> None:
    assert load_recipe(path).name.startswith(path.parent.name.split("-")[0])


@pytest.mark.parametrize(
    ("stage", "batch", "rates", "policy", "template"),
    [
        ("align", 256, {"connector": 1e-3}, "crop", "plain"),
        ("instruct", 128, {"connector": 2e-5, "language": 2e-5}, "pad", "vicuna_v1"),
    ],
)
def test_llava_recipes_have_the_published_numbers(
    stage: str, batch: int, rates: dict[str, float], policy: str, template: str
) -> None:
    """LLaVA's scripts/v1_5/pretrain.sh and finetune.sh."""
    recipe = load_recipe(ROOT / "recipes" / "llava-1.5-7b" / f"{stage}.yaml")
    assert recipe.train.lr == rates
    assert (recipe.train.batch, recipe.train.epochs, recipe.train.warmup) == (batch, 1, 0.03)
    assert (recipe.train.schedule, recipe.train.weight_decay, recipe.max_length) == ("cosine", 0, 2048)
    assert (recipe.image_policy, recipe.template) == (policy, template)
    assert yaml.safe_load(dump_recipe(recipe))["name"] == recipe.name
