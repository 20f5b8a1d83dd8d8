"""The recipes in `recipes/`: each says what was published, and takes two steps on tiny parts of its own families."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer.main
from PIL import Image

from sightline.cli import app
from sightline.config import dump_recipe, load_recipe, parse_recipe
from sightline.errors import ConfigError
from sightline.model.checkpoint import read_info
from sightline.recipe import PARTS as PARTS_OF_A_MODEL
from sightline.recipe import Recipe, Spec
from sightline.train.log import LOG_FILE, read_log
from sightline.train.loop import train
from sightline.train.run import Run, prepare
from tests.data.toy_tokenizers import FAMILIES, sentencepiece
from tests.fakes import tiny_backbone, tiny_language

ROOT = Path(__file__).parents[1]
FILES = {f"{path.parent.name}/{path.stem}": path for path in sorted((ROOT / "recipes").glob("*/*.yaml"))}
RECIPES = {key: load_recipe(path) for key, path in FILES.items()}
PUBLISHED_STARTS = {f"checkpoints/llava-v1.5-{size}": f"llava-1.5-{size}/instruct" for size in ("7b", "13b")}
"""Checkpoints that are imported, and the recipe that makes the like of them."""
README = (ROOT / "README.md").read_text()
FROM_LLAVA = (ROOT / "docs" / "from-llava.md").read_text()

# ---- what was published ----------------------------------------------------------------------------------------------


class Figures(NamedTuple):
    """The figures of LLaVA's scripts and model zoo: samples a step, rates, epochs, rank and alpha, and the rest."""

    batch: int
    connector: float
    language: float | None
    epochs: float
    lora: tuple[int, float] | None = None
    policy: str = "crop"
    grouped: bool = False
    nf4: bool = False


FIGURES = {
    "llava-1.0-7b/align": Figures(128, 2e-3, None, 1),
    "llava-1.0-7b/instruct": Figures(128, 2e-5, 2e-5, 3),
    "llava-1.0-7b/lora": Figures(128, 2e-5, 2e-5, 1, (64, 16)),
    "llava-1.0-7b/qlora": Figures(128, 2e-5, 2e-5, 1, (64, 16), nf4=True),
    "llava-1.0-13b/align": Figures(128, 2e-3, None, 1),
    "llava-1.0-13b/align-558k": Figures(128, 2e-3, None, 1),
    "llava-1.0-13b/instruct": Figures(128, 2e-5, 2e-5, 3),
    "llava-1.0-13b/scienceqa": Figures(128, 2e-5, 2e-5, 12),
    "llava-lightning-7b/align": Figures(128, 2e-3, None, 1),
    "llava-lightning-7b/instruct": Figures(128, 2e-5, 2e-5, 1),
} | {
    f"llava-1.5-{size}/{name}": figures
    for size in ("7b", "13b")
    for name, figures in {
        "align": Figures(256, 1e-3, None, 1),
        "instruct": Figures(128, 2e-5, 2e-5, 1, None, "pad", True),
        "lora": Figures(128, 2e-5, 2e-4, 1, (128, 256), "pad", True),
        "qlora": Figures(128, 2e-5, 2e-4, 1, (128, 256), "pad", True, True),
        "task": Figures(128, 2e-5, 2e-5, 1, None, "pad", True),
        "task-lora": Figures(128, 2e-5, 2e-4, 1, (128, 256), "pad", True),
    }.items()
}
PARTS = {
    "llava-1.0-7b": ("openai/clip-vit-large-patch14", "lmsys/vicuna-7b-v1.3", "linear"),
    "llava-1.0-13b": ("openai/clip-vit-large-patch14", "lmsys/vicuna-13b-v1.3", "linear"),
    "llava-lightning-7b": ("openai/clip-vit-large-patch14", "lmsys/vicuna-7b-v1.1", "linear"),
    "llava-1.5-7b": ("openai/clip-vit-large-patch14-336", "lmsys/vicuna-7b-v1.5", "mlp2x_gelu"),
    "llava-1.5-13b": ("openai/clip-vit-large-patch14-336", "lmsys/vicuna-13b-v1.5", "mlp2x_gelu"),
}
MODERN = ("siglip-qwen3", "clip-smollm2", "clip-tinyllama")


def test_every_published_run_has_its_recipe() -> None:
    modern = {f"{folder}/{stage}" for folder in MODERN for stage in ("align", "instruct")}
    assert set(FILES) == set(FIGURES) | modern | {"demo/align", "demo/instruct"}


@pytest.mark.parametrize("key", FIGURES)
def test_a_recipe_has_the_published_figures(key: str) -> None:
    recipe = RECIPES[key]
    settings, lora = recipe.train, recipe.train.lora
    found = Figures(
        settings.batch, settings.lr["connector"], settings.lr.get("language"), settings.epochs or 0,
        lora and (lora.rank, lora.alpha), recipe.image_policy, settings.group_by_modality, settings.quantize == "nf4",
    )  # fmt: skip
    assert found == FIGURES[key]
    assert "vision" not in settings.lr
    assert lora is None or (lora.dropout, lora.targets) == (0.05, "all-linear")
    # The same in all of LLaVA's scripts, or transformers' defaults, which they leave alone.
    assert (settings.schedule, settings.warmup, settings.weight_decay) == ("cosine", 0.03, 0.0)
    assert (settings.betas, settings.eps, settings.clip) == ((0.9, 0.999), 1e-8, 1.0)
    assert (settings.gradient_checkpointing, settings.precision, recipe.max_length) == (True, "auto", 2048)
    assert recipe.template == ("vicuna_v1" if "language" in settings.lr else "plain")


@pytest.mark.parametrize("key", [key for key in FIGURES if RECIPES[key].model.start is None])
def test_a_first_stage_has_the_published_parts(key: str) -> None:
    model = RECIPES[key].model
    assert (model.vision, model.language, model.connector) == PARTS[key.split("/")[0]]
    assert (model.vision_layer, model.vision_select, model.fresh_connector) == (-2, "patch", False)


@pytest.mark.parametrize("key", FILES)
def test_a_recipe_is_named_after_its_file_and_starts_where_another_one_ends(key: str) -> None:
    recipe = RECIPES[key]
    assert recipe.name == key.replace("/", "-")
    assert recipe.output == f"runs/{key}"
    if recipe.model.start is not None:
        before = RECIPES[start_of(recipe)]
        assert before.output == recipe.model.start or recipe.model.start in PUBLISHED_STARTS
        assert key.startswith(start_of(recipe).split("/")[0])


@pytest.mark.parametrize("key", [key for key in FILES if not key.startswith("demo/")])
def test_a_recipe_opens_with_its_source_its_hours_and_its_command(key: str) -> None:
    lines = FILES[key].read_text().splitlines()
    comment = "\n".join(lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))])
    assert all(len(line) <= 120 for line in lines)
    assert re.search(r"^# Source: (scripts/|our default)", comment, re.MULTILINE)
    assert re.search(r"^# Published: .*(hour|nothing)", comment, re.MULTILINE)
    assert f"sightline train recipes/{key}.yaml" in comment
    assert ("sightline[qlora]" in comment) == (RECIPES[key].train.quantize is not None)


# ---- two steps -------------------------------------------------------------------------------------------------------

ZEPHYR = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""How TinyLlama's chat models write a turn; the roles are ordinary words to their tokenizer."""
FAMILIES_OF: dict[str, tuple[str, Callable[[], Any]]] = {
    "openai/clip": ("clip", lambda: None),
    "google/siglip": ("siglip", lambda: None),
    "lmsys/vicuna": ("llama", FAMILIES["llama-2-legacy"]),
    "TinyLlama/": ("llama", lambda: sentencepiece(legacy=False, template=ZEPHYR)),
    "HuggingFaceTB/SmolLM2": ("llama_tied", FAMILIES["qwen2.5"]),
    "Qwen/Qwen3": ("qwen3", FAMILIES["qwen3"]),
}
"""How the name of a part begins -> its family in `fakes`, and what makes a tokenizer like its own."""
CHANGED = {"output", "model", "data", "validation"}
CHANGED_TRAIN = {"batch", "micro_batch", "steps", "epochs", "workers", "device"}
QUESTIONS = (("What colour is the car?", "Yellow."), ("Is it safe?", "Yes, on the street."), ("Why?", "No car."))


def start_of(recipe: Recipe) -> str:
    """The recipe whose result this one starts from."""
    ends = {other.output: key for key, other in RECIPES.items()} | PUBLISHED_STARTS
    return ends[str(recipe.model.start)]


class Bench:
    """Tiny parts, pictures and data on disk; every recipe runs on them once, and others start from its result."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: dict[str, Run] = {}
        noise = np.random.default_rng(3)
        samples = []
        for number in range(9):
            question, answer = QUESTIONS[number % 3]
            sample = {"id": f"s{number}", "image": f"{number}.png"}
            if number % 3 == 2:
                del sample["image"]
            else:
                pixels = noise.integers(0, 255, (20 + 5 * number, 60 - 4 * number, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / f"{number}.png")
                question = f"<image>\n{question}"
            turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            samples.append({**sample, "conversations": turns})
        (root / "talk.json").write_text(json.dumps(samples))
        (root / "captions.json").write_text(json.dumps([sample for sample in samples if "image" in sample]))

    def part(self, name: str) -> Path:
        """The directory of a tiny part of the family that `name` belongs to; parts of the embedded default are tiny."""
        if name.startswith("package:"):
            return Path(name)
        (family, make_tokenizer), *others = (value for start, value in FAMILIES_OF.items() if name.startswith(start))
        assert not others
        tokenizer = make_tokenizer()
        directory = self.root / re.sub(r"\W", "-", name)
        if directory.exists():
            return directory
        if tokenizer is None:
            tiny_backbone(family).save_pretrained(directory)
        else:
            ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
            tiny_language(family, vocab_size=len(tokenizer), **ends).save_pretrained(directory)
            tokenizer.save_pretrained(directory)
        return directory

    def run(self, key: str) -> Run:
        """Two steps of a recipe: all its hyper-parameters, but for the size of a batch."""
        if key not in self.runs:
            recipe = RECIPES[key]
            if recipe.model.start is not None:
                model = [f"model.start={self.run(start_of(recipe)).directory}"]
            else:
                model = [
                    f"model.{name}={self.part(str(getattr(recipe.model, name)))}" for name in ("vision", "language")
                ]
            data = "talk" if "language" in recipe.train.lr else "captions"
            sizes = "train.batch=4 train.micro_batch=2 train.steps=2 train.epochs=null train.workers=0 train.device=cpu"
            places = [f"output={self.root / 'runs' / key}", f"data.0.path={self.root / data}.json"]
            places += [f"data.0.images={self.root}", "validation=[]"]
            loaded = load_recipe(FILES[key], [*model, *places, *sizes.split()])
            run = prepare(loaded, say=lambda message: None)
            train(run, quiet=True)
            run.release()
            self.runs[key] = run
        return self.runs[key]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("key", FILES)
def test_a_recipe_takes_two_steps_on_tiny_parts_of_its_families(
    key: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES[key]
    if recipe.train.quantize is not None and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes (the extra qlora) is not installed")
    monkeypatch.setattr("sightline.train.loop.plot_run", lambda rows, path, *, title: path.write_bytes(b""))
    run = bench.run(key)
    rows = [row for row in read_log(run.directory / LOG_FILE) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(math.isfinite(row["loss"]) and row["gradient_norm"] > 0 for row in rows)
    # Warm-up starts at zero and is over after the first of two steps: the second has the recipe's full rates.
    rates = {str(group["name"]).split("/")[0]: group["lr"] for group in run.optimizer.param_groups}
    assert rates == recipe.train.lr
    assert unchanged(run.recipe) == unchanged(recipe)
    info = read_info(run.directory)
    assert info["processor"]["template"] == recipe.template
    assert info["processor"]["image_policy"] == recipe.image_policy
    if recipe.train.lora is not None:
        adapter = json.loads((run.directory / "lora" / "adapter_config.json").read_text())
        assert (adapter["r"], adapter["lora_alpha"]) == (recipe.train.lora.rank, recipe.train.lora.alpha)


def unchanged(recipe: Recipe) -> dict[str, Any]:
    """A recipe without what a dry run changes: places and the size of a batch. Of `model`, the part names alone go."""
    tree = recipe.model_dump(mode="json")
    kept = {key: value for key, value in tree.items() if key not in CHANGED}
    kept["train"] = {key: value for key, value in tree["train"].items() if key not in CHANGED_TRAIN}
    kept["model"] = {key: value for key, value in tree["model"].items() if key not in ("start", "vision", "language")}
    return kept


# ---- rules between keys ----------------------------------------------------------------------------------------------


def test_a_language_model_in_four_bits_trains_through_adapters_alone() -> None:
    tree = json.loads(RECIPES["llava-1.5-7b/qlora"].model_dump_json(exclude_unset=True))
    assert dump_recipe(parse_recipe(tree, where="test")) == dump_recipe(RECIPES["llava-1.5-7b/qlora"])
    del tree["train"]["lora"]
    with pytest.raises(ConfigError, match=r"quantize .* lr has a rate for language; add lora"):
        parse_recipe(tree, where="test")
    del tree["train"]["lr"]["language"]
    assert parse_recipe(tree, where="test").train.quantize == "nf4"


# ---- the documents ---------------------------------------------------------------------------------------------------

FLAGS = """
    model_name_or_path version freeze_backbone tune_mm_mlp_adapter vision_tower mm_vision_select_layer
    pretrain_mm_mlp_adapter mm_projector_type mm_use_im_start_end mm_use_im_patch_token mm_patch_merge_type
    mm_vision_select_feature data_path lazy_preprocess is_multimodal image_folder image_aspect_ratio cache_dir optim
    remove_unused_columns freeze_mm_mlp_adapter mpt_attn_impl model_max_length double_quant quant_type bits lora_enable
    lora_r lora_alpha lora_dropout lora_weight_path lora_bias mm_projector_lr group_by_modality_length deepspeed bf16
    fp16 tf32 output_dir num_train_epochs per_device_train_batch_size per_device_eval_batch_size
    gradient_accumulation_steps evaluation_strategy save_strategy save_steps save_total_limit learning_rate weight_decay
    warmup_ratio lr_scheduler_type logging_steps gradient_checkpointing dataloader_num_workers report_to seed max_steps
    max_grad_norm adam_beta1 adam_beta2 adam_epsilon fsdp fsdp_transformer_layer_cls_to_wrap
"""
"""The arguments of LLaVA's train.py, and those of transformers that its scripts set or rely on."""
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in FROM_LLAVA.splitlines()
    if line.startswith("|") and not line.startswith(("|--", "| --"))
]


def test_every_flag_of_llava_has_its_row() -> None:
    named = {flag for row in ROWS for flag in re.findall(r"`--(\w+)", row[0])}
    assert set(FLAGS.split()) - named == set()


def test_the_recipe_keys_of_the_table_exist() -> None:
    flag_rows = [row for row in ROWS if row[0].startswith("`--") and len(row) == 3]
    keys = {key for row in flag_rows for key in re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)*)(?::[^`]*)?`", row[2])}
    assert len(keys) > 20
    for key in keys:
        assert has_key(Recipe, [part for part in key.split(".") if not part.isdigit()]), key


def has_key(model: type[Spec], path: list[str]) -> bool:
    """Whether a recipe may have this key."""
    name, *rest = path
    if name not in model.model_fields or not rest:
        return name in model.model_fields
    inner = specs(model.model_fields[name].annotation)
    return any(has_key(found, rest) for found in inner) if inner else rest[0] in PARTS_OF_A_MODEL


def specs(annotation: Any) -> list[type[Spec]]:
    """The parts of the schema inside a type, such as `DataSource` in a tuple of them."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in specs(argument)]


def test_a_command_that_is_not_there_is_called_so() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for row in ROWS:
        missing = set(re.findall(r"`sightline (\w+)", " ".join(row))) - commands
        assert not missing or "not yet" in " ".join(row), f"{row[0]}: {missing}"


def test_the_readme_lists_every_recipe_and_links_the_glossary() -> None:
    listed = {
        f"{folder}/{name}"
        for folder, names in re.findall(r"^\| `([\w.-]+)/` \| ([^|]*) \|", README, re.MULTILINE)
        for name in re.findall(r"`([\w.-]+)`", names)
    }
    assert listed == set(FILES)
    assert "docs/from-llava.md" in README
