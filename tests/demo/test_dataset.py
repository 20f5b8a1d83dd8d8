"""The demo's data: the same bytes every time, splits that share nothing, files that the ordinary readers take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.data.image import check_image
from sightline.data.parsing import read_samples
from sightline.data.sample import ImageRef, Sample
from sightline.demo.coco import file_name, read_captions, read_scenes
from sightline.demo.dataset import TEST_START, Counts, instruction_sample, questions, write_data
from sightline.demo.story import objects_named
from sightline.demo.teacher import ASKERS, SHORT_ANSWER
from sightline.demo.world import UNSEEN_PAIRS, Scene, draw_scene
from sightline.evaluate.blind import swapped
from sightline.evaluate.tasks.short_answers import questions as read_questions
from tests.demo.scenes import truth

COUNTS = Counts(train=40, validation=6, test_seen=24, test_unseen=12)
SPLITS = {"train": 40, "validation": 6, "test": 36}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    write_data(directory, COUNTS, processes=1)
    return directory


def scenes_of(folder: Path, split: str) -> list[Scene]:
    return read_scenes(folder / "annotations" / f"instances_{split}.json")


def read(folder: Path, name: str) -> list[Sample]:
    return read_samples(folder / f"{name}.json", on_reject=None)


def human_turns(sample: Sample) -> Iterator[tuple[str, str]]:
    """Question and answer in words."""
    for question, answer in zip(sample.turns[0::2], sample.turns[1::2], strict=True):
        words = "".join(part for part in question.content if isinstance(part, str)).strip()
        yield words, "".join(part for part in answer.content if isinstance(part, str))


def test_every_split_has_its_pictures_and_annotations(folder: Path) -> None:
    for split, count in SPLITS.items():
        scenes = scenes_of(folder, split)
        files = sorted(path.name for path in (folder / "images" / split).iterdir())
        assert len(files) == count
        assert files == sorted(file_name(scene.index) for scene in scenes)
        assert all(check_image(name, root=folder / "images" / split) == (96, 96) for name in files)
        assert set(read_captions(folder / "annotations" / f"captions_{split}.json")) == {s.index for s in scenes}


def test_the_default_is_as_large_as_promised() -> None:
    assert Counts().train >= 8000
    assert Counts().test_seen + Counts().test_unseen >= 1000
    assert Counts().train + Counts().validation < TEST_START


def test_splits_share_no_picture_and_no_scene(folder: Path) -> None:
    drawn = [(split, scene) for split in SPLITS for scene in scenes_of(folder, split)]
    pictures = {(folder / "images" / split / file_name(scene.index)).read_bytes() for split, scene in drawn}
    indexes, things = {scene.index for _, scene in drawn}, {scene.things for _, scene in drawn}
    assert len(pictures) == len(indexes) == len(things) == len(drawn) == sum(SPLITS.values())


def test_training_never_shows_an_unseen_pair_and_a_part_of_the_test_always_does(folder: Path) -> None:
    for split in ("train", "validation"):
        assert not any(scene.has_unseen_pair for scene in scenes_of(folder, split))
    assert [scene.has_unseen_pair for scene in scenes_of(folder, "test")] == [False] * 24 + [True] * 12


def test_training_never_speaks_of_an_unseen_pair(folder: Path) -> None:
    """Neither as there nor as absent: the model would learn that there are none."""
    for name in ("align_train", "instruct_train", "align_validation", "instruct_validation"):
        text = (folder / f"{name}.json").read_text()
        assert not any(f"{color} {shape}" in text for color, shape in UNSEEN_PAIRS)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("stage", ["align", "instruct"])
def test_every_sample_is_read_without_rejection_and_has_its_picture(folder: Path, stage: str, split: str) -> None:
    samples = read(folder, f"{stage}_{split}")
    assert len({sample.id for sample in samples}) == len(samples) >= SPLITS[split]
    for sample in samples:
        if sample.id.startswith("talk-"):
            assert not sample.images
            continue
        (name,) = sample.images
        check_image(name, root=folder / "images" / split)
        pictures = [part for turn in sample.turns for part in turn.content if isinstance(part, ImageRef)]
        assert pictures == [ImageRef(index=0)]
        assert sample.turns[0].content[0] == ImageRef(index=0)
    assert {name for sample in samples for name in sample.images} == {
        file_name(scene.index) for scene in scenes_of(folder, split)
    }


def test_align_teaches_the_caption_that_names_everything(folder: Path) -> None:
    captions = read_captions(folder / "annotations" / "captions_train.json")
    for sample, scene in zip(read(folder, "align_train"), scenes_of(folder, "train"), strict=True):
        ((_, caption),) = human_turns(sample)
        assert caption == captions[scene.index][0]


def test_instruct_has_all_kinds_with_true_answers() -> None:
    kinds: Counter[str] = Counter()
    turns: Counter[int] = Counter()
    for index in range(150):
        scene = draw_scene(index, seed=1)
        sample = instruction_sample(scene)
        kind = sample["id"].split("-")[1]
        kinds[kind] += 1
        assert sample["image"] == file_name(index)
        assert sample["conversations"][0]["value"].startswith("<image>\n")
        if kind == "conversation":
            turns[len(sample["conversations"]) // 2] += 1
            _check_conversation(scene, sample["conversations"])
        elif kind == "caption":
            asked, given = sample["conversations"]
            assert asked["value"] == "<image>\nProvide a one-sentence caption for the provided image."
            assert objects_named([scene], {sample["image"]: given["value"]}) == 1
    assert set(kinds) == {"conversation", "detail", "reasoning", "caption"}
    assert max(turns) >= 5
    assert instruction_sample(draw_scene(3, seed=1)) == instruction_sample(draw_scene(3, seed=1))


def _check_conversation(scene: Scene, conversation: list[dict[str, str]]) -> None:
    short = SHORT_ANSWER in conversation[0]["value"]
    for human, gpt in zip(conversation[0::2], conversation[1::2], strict=True):
        question = human["value"].removeprefix("<image>\n").removesuffix(f"\n{SHORT_ANSWER}")
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        answers = {kind: _answer(scene, kind, question) for kind in ASKERS}
        assert gpt["value"] in {pair[0 if short else 1] for pair in answers.values() if pair}


def _answer(scene: Scene, kind: str, question: str) -> tuple[str, str] | None:
    """The second opinion, if the question is one of this type."""
    try:
        return truth(scene, kind, question)
    except AssertionError:
        return None


# ---- held-out questions ----------------------------------------------------------------------------------------------


def test_questions_have_ids_of_their_own_and_true_answers(folder: Path) -> None:
    found = read_questions([folder / "questions.jsonl"])
    by_name = {file_name(scene.index): scene for scene in scenes_of(folder, "test")}
    assert len({question.id for question in found}) == len(found) == 3 * SPLITS["test"]
    assert {question.image for question in found} == set(by_name)
    for question in found:
        text, request = question.text.rsplit("\n", 1)
        assert request == SHORT_ANSWER
        assert truth(by_name[question.image], question.group, text)[0] == question.answers[0]


def test_questions_are_of_all_types_and_never_two_of_one_type_about_a_picture(folder: Path) -> None:
    found = read_questions([folder / "questions.jsonl"])
    assert len({question.group for question in found}) >= 8
    pairs = Counter((question.image, question.group) for question in found)
    assert max(pairs.values()) == 1


def test_unseen_marks_questions_that_turn_on_an_unseen_pair_in_the_picture(folder: Path) -> None:
    found = read_questions([folder / "questions.jsonl"])
    by_name = {file_name(scene.index): scene for scene in scenes_of(folder, "test")}
    marked = [question for question in found if question.more["unseen"]]
    assert {question.image for question in marked} <= {name for name, s in by_name.items() if s.has_unseen_pair}
    assert len({question.image for question in marked}) >= 11, "nearly every such picture is asked about its pair"
    assert all(question.group != "reading" for question in marked)
    assert all(question["unseen"] is False for question in questions(draw_scene(5, seed=1)))


def test_swapping_shows_no_question_its_own_picture(folder: Path) -> None:
    found = read_questions([folder / "questions.jsonl"])
    images = [question.image for question in found]
    assert all(other != own for other, own in zip(swapped(images), images, strict=True))


def test_the_same_counts_give_the_same_bytes_however_many_processes(folder: Path, tmp_path: Path) -> None:
    write_data(tmp_path, COUNTS, processes=2)
    first = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert again == first
