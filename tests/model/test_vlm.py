import pytest
import torch

from sightline.errors import ConfigError, SightlineError
from sightline.model.vlm import VisionLanguageModel
from tests.fakes import IMAGE_TOKEN, LANGUAGE_FAMILIES, tiny_model, tiny_pixels, tiny_prompt

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2"]


def text(*ids: int) -> torch.Tensor:
    return torch.tensor([ids])


def gradients(model: VisionLanguageModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_parts_carry_the_names_of_recipes() -> None:
    model = tiny_model()
    assert list(model.parts()) == ["vision", "connector", "language"]
    names = {name.partition(".")[0] for name, _ in model.named_parameters()}
    assert names == set(model.parts())


@torch.no_grad()
def test_embeddings_are_text_with_connected_features_at_the_placeholders() -> None:
    model = tiny_model()
    prompt, pixels = tiny_prompt(model, images=2), tiny_pixels(2)
    embeddings = model.embed(prompt, pixels)
    is_image = prompt == IMAGE_TOKEN
    torch.testing.assert_close(embeddings[is_image], model.connector(model.vision(pixels)).reshape(32, 32))
    words = model.language.get_input_embeddings()(prompt[~is_image])
    torch.testing.assert_close(embeddings[~is_image], words)


@torch.no_grad()
def test_features_that_are_given_are_not_computed_and_come_before_the_pixels() -> None:
    model = tiny_model()
    prompt, pixels = tiny_prompt(model, images=4), tiny_pixels(3)
    expected = model.embed(prompt, pixels, shown=torch.tensor([0, 1, 2, 1]))
    features = model.vision(pixels)
    counts: list[int] = []
    model.vision.register_forward_pre_hook(lambda module, inputs: counts.append(len(inputs[0])))
    given = {
        "all": model.embed(prompt, None, features=features, shown=torch.tensor([0, 1, 2, 1])),
        "two": model.embed(prompt, pixels[:1], features=features[1:], shown=torch.tensor([2, 0, 1, 0])),
    }
    assert counts == [1]
    for found in given.values():
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    once = model.embed(tiny_prompt(model, images=3), pixels[:1], features=features[1:], shown=torch.tensor([2, 0, 1]))
    torch.testing.assert_close(once, model.embed(tiny_prompt(model, images=3), pixels), rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", LANGUAGE_FAMILIES)
@torch.no_grad()
def test_kept_positions_are_those_of_the_whole_logits(family: str) -> None:
    model = tiny_model(language=family)
    prompt, pixels = tiny_prompt(model), tiny_pixels(1)
    whole = model(prompt, pixels=pixels)
    assert whole.shape == (1, prompt.shape[1], 96)
    keep = torch.tensor([0, 5, 20])
    torch.testing.assert_close(model(prompt, pixels=pixels, keep=keep), whole[:, keep], rtol=0, atol=1e-6)
    assert model(prompt, pixels=pixels, keep=keep[:0]).shape == (1, 0, 96)


@torch.no_grad()
def test_the_head_runs_on_kept_positions_only() -> None:
    model = tiny_model()
    seen: list[torch.Size] = []
    model.language.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    model(tiny_prompt(model), pixels=tiny_pixels(1), keep=torch.tensor([3, 4]))
    assert seen == [(1, 2, 32)]


@torch.no_grad()
def test_soft_capping_is_kept() -> None:
    model = tiny_model(language="gemma2")
    assert model(tiny_prompt(model), pixels=tiny_pixels(1)).abs().max() <= 0.5


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_packed_rows_do_not_see_each_other(family: str) -> None:
    model = tiny_model(language=family).train()
    first, second = tiny_prompt(model), tiny_prompt(model, images=2)
    pixels = tiny_pixels(3)
    packed = torch.cat([first, second], dim=1)
    positions = torch.cat([torch.arange(first.shape[1]), torch.arange(second.shape[1])])[None]
    logits = model(packed, pixels=pixels, position_ids=positions)
    alone = [model(first, pixels=pixels[:1]), model(second, pixels=pixels[1:])]
    torch.testing.assert_close(logits, torch.cat(alone, dim=1), rtol=0, atol=1e-5)


@torch.no_grad()
def test_padding_under_the_mask_changes_nothing() -> None:
    model = tiny_model()
    prompt, pixels = tiny_prompt(model), tiny_pixels(1)
    padded = torch.cat([prompt, text(0, 0, 0)], dim=1)
    mask = (torch.arange(padded.shape[1]) < prompt.shape[1]).long()[None]
    logits = model(padded, pixels=pixels, attention_mask=mask)[:, : prompt.shape[1]]
    torch.testing.assert_close(logits, model(prompt, pixels=pixels), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_decoding_step_by_step_gives_the_logits_of_one_pass(family: str) -> None:
    model = tiny_model(language=family)
    prompt, pixels = tiny_prompt(model), tiny_pixels(1)
    answer = text(11, 12, 13)
    whole = model(torch.cat([prompt, answer], dim=1), pixels=pixels)
    logits, past = model.decode(model.embed(prompt, pixels))
    torch.testing.assert_close(logits, whole[:, prompt.shape[1] - 1], rtol=0, atol=1e-5)
    for step in range(3):
        logits, past = model.decode(model.embed(answer[:, step : step + 1], None), past)
        torch.testing.assert_close(logits, whole[:, prompt.shape[1] + step], rtol=0, atol=1e-5)


@torch.no_grad()
def test_left_padded_rows_decode_as_they_would_alone() -> None:
    model = tiny_model()
    long, short = text(1, 5, 6, 7, 8), text(1, 9, 10)
    batch = torch.cat([long, torch.cat([text(0, 0), short], dim=1)])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits, past = model.decode(model.embed(batch, None), attention_mask=mask, position_ids=positions)
    following = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], dim=1)
    logits, _ = model.decode(
        model.embed(torch.tensor([[20], [20]]), None),
        past,
        attention_mask=following,
        position_ids=positions[:, -1:] + 1,
    )
    for row, prompt in enumerate([long, short]):
        alone = model(torch.cat([prompt, text(20)], dim=1))[0, -1]
        torch.testing.assert_close(logits[row], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_positions_that_are_given_are_used() -> None:
    model = tiny_model()
    prompt = text(1, 5, 6, 7)
    spread, mask = text(0, 10, 20, 30), text(1, 1, 1, 1)  # Without a mask a jump would begin a new sample of a pack.
    whole = model(prompt, position_ids=spread, attention_mask=mask)
    assert not torch.allclose(whole, model(prompt), atol=1e-3)
    logits, _ = model.decode(model.embed(prompt, None), position_ids=spread, attention_mask=mask)
    torch.testing.assert_close(logits, whole[:, -1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_text_alone_does_not_run_the_encoder() -> None:
    model = tiny_model()
    model.vision.register_forward_hook(lambda *_: pytest.fail("the encoder ran"))
    expected = model.language(input_ids=text(1, 5, 6), use_cache=False).logits
    torch.testing.assert_close(model(text(1, 5, 6)), expected)
    torch.testing.assert_close(model(text(1, 5, 6), pixels=tiny_pixels(0)), expected)


@torch.no_grad()
def test_the_image_token_needs_no_row_in_the_vocabulary() -> None:
    inside, outside = tiny_model(), tiny_model(image_token_id=5000)
    pixels = tiny_pixels(1)
    torch.testing.assert_close(
        outside(tiny_prompt(outside), pixels=pixels), inside(tiny_prompt(inside), pixels=pixels), rtol=0, atol=0
    )


def test_placeholders_without_their_images_are_refused_by_name() -> None:
    model = tiny_model()
    with pytest.raises(SightlineError, match=r'16 image placeholders .*sample "dog-1": 16.* 0 image features'):
        model(tiny_prompt(model), ids=["dog-1"])
    with pytest.raises(SightlineError, match="2 images x 16 = 32"):
        model(tiny_prompt(model), pixels=tiny_pixels(2))


def test_a_frozen_encoder_and_language_model_pass_the_gradient_to_the_connector() -> None:
    model = tiny_model().requires_grad_(False)
    model.connector.requires_grad_(True)
    model(tiny_prompt(model), pixels=tiny_pixels(1)).square().mean().backward()
    names = set(gradients(model))
    assert names == {f"connector.{index}.{kind}" for index in (0, 2) for kind in ("weight", "bias")}
    assert all(gradient.any() for gradient in gradients(model).values())


@pytest.mark.parametrize("trained", [["connector"], ["connector", "language"], ["vision", "connector", "language"]])
def test_gradient_checkpointing_changes_no_gradient(trained: list[str]) -> None:
    model = tiny_model().train().requires_grad_(False)
    for name in trained:
        model.parts()[name].requires_grad_(True)
    prompt, pixels = tiny_prompt(model), tiny_pixels(1)
    calls: list[int] = []
    model.language.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    model(prompt, pixels=pixels).square().mean().backward()
    plain, once = gradients(model), len(calls)
    model.zero_grad()
    model.set_gradient_checkpointing(True)
    model(prompt, pixels=pixels).square().mean().backward()
    assert len(calls) == once + 2, "the layer was not computed again"
    recomputed = gradients(model)
    assert set(recomputed) == set(plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-5, atol=1e-7)
    model.set_gradient_checkpointing(False)
    model(prompt, pixels=pixels)
    assert len(calls) == once + 3


def test_a_model_that_cannot_recompute_may_be_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(type(model.language), "supports_gradient_checkpointing", False)
    model.set_gradient_checkpointing(False)
    with pytest.raises(ConfigError, match="LlamaForCausalLM has no gradient checkpointing: leave it off"):
        model.set_gradient_checkpointing(True)


@torch.no_grad()
def test_parts_of_different_types_work_together() -> None:
    model = tiny_model()
    model.vision.to(torch.bfloat16)
    model.language.to(torch.bfloat16)
    assert model(tiny_prompt(model), pixels=tiny_pixels(1)).dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("family", LANGUAGE_FAMILIES)
@torch.no_grad()
def test_decoded_rows_get_the_language_models_own_logits(family: str, rows: int) -> None:
    model = tiny_model(language=family)
    ids = torch.arange(2, 2 + 5 * rows).view(rows, 5)
    logits, cache = model.decode(ids)
    expected = model.language(input_ids=ids).logits
    torch.testing.assert_close(logits, expected[:, -1], atol=1e-5, rtol=1e-5)
    logits, _ = model.decode(ids[:, :1], cache)
    expected = model.language(input_ids=torch.cat([ids, ids[:, :1]], dim=1)).logits
    torch.testing.assert_close(logits, expected[:, -1], atol=1e-5, rtol=1e-5)
