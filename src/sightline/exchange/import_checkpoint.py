"""`sightline import`: a foreign checkpoint becomes one of ours.

Comes in: a directory that other software wrote, and the directories it leans on. Goes out: a checkpoint of ours, whole
or not at all, and the account of every tensor. Tensors go from file to file one at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from sightline.data.literal_template import markup_of
from sightline.data.normalisation import image_normalisation
from sightline.data.processor import IMAGE_TOKEN, Processor, ProcessorSettings, add_image_token
from sightline.errors import CheckpointError, ConfigError
from sightline.exchange.import_draft import Draft, draft_lora, draft_original, draft_projector
from sightline.exchange.import_hf import draft_hf
from sightline.exchange.import_parts import foreign_tokenizer, locate
from sightline.exchange.import_plan import HEAD, GrowRows, Plan, make_plan
from sightline.exchange.recognise import Found, Kind, recognise
from sightline.exchange.tensor_files import TensorReader
from sightline.model.build import language_from_config, vision_from_config
from sightline.model.checkpoint import checkpoint_tensors, save_checkpoint
from sightline.model.configs import check_depth, first_line
from sightline.model.connector import build_connector
from sightline.model.vision import VisionEncoder
from sightline.model.vlm import VisionLanguageModel
from sightline.model.weights import FLOATS

_DRAFTS: dict[Kind, Callable[..., Draft]] = {
    "original": draft_original,
    "projector": draft_projector,
    "lora": draft_lora,
    "hf": draft_hf,
}
_WRAPPED = (
    "its pictures stood between <im_start> and <im_end> in training, which no template here writes: "
    "answers may be worse than the original's"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was imported, and the account of its tensors. `used` by supply; `unused` and `made` with reasons."""

    what: str
    directory: str
    template: str
    image_policy: str
    used: dict[str, int]
    unused: dict[str, str]
    made: dict[str, str]
    notes: list[str]

    def lines(self) -> list[str]:
        """For the terminal."""
        counts = ", ".join(f"{number} from {source}" for source, number in self.used.items())
        return [
            f"{self.directory}: {self.what}",
            f"tensors used: {counts}; made: {len(self.made)}; not used: {len(self.unused)}",
            *(f"made: {name}: {reason}" for name, reason in self.made.items()),
            *(f"not used: {name}: {reason}" for name, reason in self.unused.items()),
            f"template: {self.template} (another with --template); pictures: {self.image_policy}",
            *(f"note: {note}" for note in self.notes),
        ]


def import_checkpoint(
    source: str,
    target: Path,
    *,
    base: str | None = None,
    vision: str | None = None,
    template: str | None = None,
    say: Callable[[str], None],
) -> Report:
    """Convert a foreign checkpoint.

    Args:
        source: a directory, a projector's file, or a repository on the Hub.
        target: the directory to write.
        base: the language model that a projector, an adapter or a difference belongs to.
        vision: the image encoder, where the checkpoint only names it.
        template: how conversations are written down, where it cannot be told or is told wrongly.

    Raises:
        SightlineError: the checkpoint is damaged, hostile, incomplete, or of a kind that is not read; nothing is
            written.
    """
    with TensorReader() as reader:
        found = recognise(locate(source, part="SRC"))
        draft = _DRAFTS[found.kind](found, base=base, vision=vision, reader=reader)
        say(f"{found.directory}: {draft.what}")
        tokenizer = foreign_tokenizer(draft.tokenizer, language_type=draft.text_config.model_type)
        image_token_id = _image_token(tokenizer, draft)
        old_rows = draft.text_config.vocab_size
        model = _skeleton(draft, image_token_id)
        processor = _processor(draft, tokenizer, model.vision, template)
        _put_tied_head_aside(draft, model, reader)
        plan = _plan(draft, model, old_rows, reader)
        _check_space(plan, target)
        report = _report(found, draft, plan, processor)
        origin = {"kind": found.kind, "vocab_size": old_rows, "config": found.config, "unused": report.unused}

        def extra_files(directory: Path) -> None:
            processor.save(directory)
            if found.kind == "lora":
                _keep_adapter(found, reader, directory / "lora")

        save_checkpoint(
            model,
            target,
            info={"processor": processor.describe(), "imported": origin},
            extra_files=extra_files,
            planned=plan.planned,
            content=plan.content(reader),
        )
    return report


def _report(found: Found, draft: Draft, plan: Plan, processor: Processor) -> Report:
    return Report(
        what=draft.what,
        directory=str(found.directory),
        template=processor.settings.template,
        image_policy=processor.settings.image_policy,
        used=plan.used | draft.melted,
        unused=plan.unused | draft.unused,
        made=plan.made,
        notes=[_WRAPPED] if draft.settings.wraps_images else [],
    )


def choose_template(draft: Draft, tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that a checkpoint was most likely trained with; the original writes it down nowhere.

    | what is seen | template |
    |---|---|
    | a projector of stage 1 | plain |
    | a chat template that writes tokens made for chat, such as `<|im_start|>` | own |
    | a token `[PAD]`, which only the original's `--version v0` adds | v0 |
    | a Mistral | mistral_instruct |
    | a Llama | vicuna_v1 |
    | anything else | own |
    """
    if draft.template is not None:
        return draft.template
    if _writes_chat_tokens(tokenizer):
        return "own"
    language = draft.text_config.model_type
    if language == "llama":
        return "v0" if "[PAD]" in tokenizer.get_added_vocab() else "vicuna_v1"
    return "mistral_instruct" if language == "mistral" else "own"


def _writes_chat_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's chat template has markers of its own, where the original's forms have words."""
    usual = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token, IMAGE_TOKEN}
    template = tokenizer.chat_template
    return isinstance(template, str) and any(token in template for token in markup_of(tokenizer).keys() - usual)


def _image_token(tokenizer: PreTrainedTokenizerBase, draft: Draft) -> int:
    """The id of `<image>`, added to the tokenizer if it has none."""
    found = add_image_token(tokenizer)
    if draft.image_token_id is not None and found != draft.image_token_id:
        raise CheckpointError(
            f"{draft.tokenizer}: config.json says that the image token is {draft.image_token_id!r}, the tokenizer's "
            f"<image> is {found}; they are not of one checkpoint"
        )
    return found


def _skeleton(draft: Draft, image_token_id: int) -> VisionLanguageModel:
    """The model with shapes but no memory, and with a row for every token."""
    tensors = sum(len(supply.tensors) for supply in draft.supplies)
    for config in (draft.vision_config, draft.text_config):
        check_depth(config, tensors=tensors, where=f"{draft.tokenizer}: its configuration")
    settings, text_config = draft.settings, draft.text_config
    text_config.vocab_size = max(text_config.vocab_size, image_token_id + 1)
    try:
        with torch.device("meta"):
            backbone = vision_from_config(draft.vision_config, dtype=torch.float32)
            vision = VisionEncoder(backbone, layer=settings.layer, select=settings.select)
            language = language_from_config(text_config, dtype=_language_dtype(draft))
            width = language.get_input_embeddings().weight.shape[1]
            connector = build_connector(settings.connector, vision_width=vision.width, language_width=width)
    except RuntimeError as error:
        raise CheckpointError(
            f"{draft.tokenizer}: its configuration asks for tensors that cannot exist: {first_line(error)}"
        ) from error
    return VisionLanguageModel(vision, connector, language, image_token_id=image_token_id)


def _language_dtype(draft: Draft) -> torch.dtype:
    """What `config.json` says for all of the model: the type of the language model's largest tensor."""
    stored = [one for supply in draft.supplies for name, one in supply.tensors.items() if name.startswith("language_")]
    largest = max(stored, key=lambda one: torch.Size(one.shape).numel(), default=None)
    return FLOATS.get(largest.dtype, torch.float32) if largest is not None else torch.float32


def _processor(
    draft: Draft, tokenizer: PreTrainedTokenizerBase, vision: VisionEncoder, template: str | None
) -> Processor:
    mean, std = image_normalisation(str(draft.pixels), model_type=draft.vision_config.model_type)
    return Processor(
        tokenizer,
        ProcessorSettings(
            template=template or choose_template(draft, tokenizer),
            image_policy=draft.settings.image_policy,
            image_size=vision.image_size,
            image_mean=mean,
            image_std=std,
            image_tokens=vision.tokens_per_image,
            patch_size=vision.patch_size,
            num_prefix_tokens=vision.num_prefix_tokens,
            max_length=draft.settings.max_length,
        ),
    )


def _plan(draft: Draft, model: VisionLanguageModel, old_rows: int, reader: TensorReader) -> Plan:
    wanted, fillers = checkpoint_tensors(model)
    vocabulary = {id(model.language.get_input_embeddings().weight), id(model.language.get_output_embeddings().weight)}
    changes = dict(draft.changes)
    new_rows = draft.text_config.vocab_size
    if new_rows > old_rows:
        for name, parameter in model.language.named_parameters(prefix="language_model"):
            if id(parameter) in vocabulary:
                changes[name] = (*changes.get(name, ()), GrowRows(old_rows, new_rows))
    fillers = {name: filler.to(model.language.dtype) for name, filler in fillers.items()}
    return make_plan(wanted, fillers, draft.supplies, changes, their_name=draft.their_name, reader=reader)


def _put_tied_head_aside(draft: Draft, model: VisionLanguageModel, reader: TensorReader) -> None:
    """Some files hold the output matrix though it is the input matrix. If it really is, once is enough."""
    if model.language.get_output_embeddings().weight is not model.language.get_input_embeddings().weight:
        return
    matrix = model.language.get_input_embeddings().weight
    names = {id(parameter): name for name, parameter in model.language.named_parameters(prefix="language_model")}
    for supply in draft.supplies:
        head, embedding = supply.tensors.get(HEAD), supply.tensors.get(names[id(matrix)])
        if head is None or embedding is None:
            continue
        if head.shape != embedding.shape or not torch.equal(reader.read(head), reader.read(embedding)):
            raise CheckpointError(f"{head} differs from {embedding.key}, though tie_word_embeddings says they are one")
        draft.unused[str(head)] = f"the same as {embedding.key}"
        del supply.tensors[HEAD]


def _check_space(plan: Plan, target: Path) -> None:
    existing = next(path for path in target.absolute().parents if path.exists())
    needed, free = sum(tensor.nbytes for tensor in plan.planned.values()), shutil.disk_usage(existing).free
    if needed > free:
        raise ConfigError(f"{target}: {free / 2**30:.1f} GiB are free there, {needed / 2**30:.1f} are needed")


def _keep_adapter(found: Found, reader: TensorReader, directory: Path) -> None:
    """The language model's adapter in peft's format, as training leaves it beside a model that has it merged."""
    directory.mkdir()
    kept = {
        stored.key.replace(".default.", "."): reader.read(stored).contiguous()
        for stored in found.adapter.values()
        if "vision_tower." not in stored.key
    }
    save_file(kept, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    # Neither the base's place on somebody's machine nor the module that its class was once imported from.
    settings = found.adapter_config | {"base_model_name_or_path": None, "auto_mapping": None}
    (directory / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
