"""Every figure that the official scorers gave for recorded answers comes out of the same answers here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sightline.evaluate.caption_metrics import bleu, cider_d, rouge_l
from sightline.evaluate.normalise import n2
from sightline.evaluate.ptb import tokenise
from sightline.evaluate.score import score_files
from sightline.evaluate.tasks import gqa
from sightline.evaluate.tasks.textvqa import anls, asked_in
from sightline.evaluate.tasks.vqa import n2_accuracy
from tests.command_line import Captured, sightline
from tests.evaluate import recorded
from tests.evaluate.recorded import content, lines, needs_recordings

pytestmark = needs_recordings
EXACT = 1e-9


def score(task: str, answers: Path | Sequence[Path], truth: Path | Sequence[Path], protocol: str) -> Any:
    given = [answers] if isinstance(answers, Path) else answers
    return score_files(task, given, [truth] if isinstance(truth, Path) else truth, protocol=protocol)


def same(found: Any, expected: Any) -> None:
    assert found == pytest.approx(expected, abs=EXACT)


def test_published_figures_come_out_of_the_command(tmp_path: Path, capsys: Captured) -> None:
    def said(task: str, answers: Path | Sequence[Path], truth: Path | Sequence[Path], protocol: str = "llava15") -> Any:
        given = [answers] if isinstance(answers, Path) else answers
        truths = [truth] if isinstance(truth, Path) else truth
        options = [option for path in given for option in ("--predictions", path)]
        options += [option for path in truths for option in ("--annotations", path)]
        assert sightline("score", task, *options, "--protocol", protocol, "--json") == 0
        return json.loads(capsys.readouterr().out)["figures"]

    answers, problems = recorded.scienceqa(tmp_path, 0)
    assert round(said("scienceqa", answers, problems)["IMG"], 2) == 71.64
    first = said("scienceqa", recorded.scienceqa_results(tmp_path, 1), problems, "official")
    assert [round(first[name], 2) for name in ("accuracy", "TXT", "IMG", "NO")] == [90.92, 89.49, 88.00, 90.66]
    assert round(100 * said("pope", *recorded.pope(tmp_path))["mean_f1"], 2) == 85.95
    figures = said("mme", *recorded.mme(tmp_path, "real_llava15_13b"))
    assert (round(figures["perception"], 4), round(figures["cognition"], 4)) == (1531.3187, 295.3571)
    assert round(100 * said("mmbench", *recorded.mmbench(tmp_path))["circular"], 3) == 67.687
    assert round(said("seedbench", *recorded.seed(tmp_path, "llava_v1_5_13b"))["image"], 2) == 68.21
    totals = {
        f"{size}b_{runs}": said("mmvet", *recorded.mmvet(tmp_path, f"llava-v1.5-{size}b_{runs}runs"))["total"]
        for size in (13, 7)
        for runs in (1, 3)
    }
    assert totals == {"13b_1": 36.1, "13b_3": 36.3, "7b_1": 31.2, "7b_3": 31.1}
    files = recorded.reviews(tmp_path, "real_reviews_in_the_wild")
    wild = [
        said("llava-bench", [path for name, path in files.items() if name.startswith(f"llava-v1.5-{size}b")], [])
        for size in (13, 7)
    ]
    assert [round(found["relative"], 1) for found in wild] == [72.5, 65.4]


# ---- multiple choice -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "column"), [("llava_v1_5_13b", 0), ("llava_13b_v0", 1), ("llava_lcs_558k_sqa_12e_vicuna_v1_3_13b", 2)]
)
def test_scienceqa(tmp_path: Path, run: str, column: int) -> None:
    expected = content("scienceqa/expected.json")["real"][run]
    answers, problems = recorded.scienceqa(tmp_path, column)
    names = {"acc_average": "accuracy", "acc_has_text": "TXT", "acc_has_image": "IMG", "acc_no_context": "NO"}
    for path, table in (
        (answers, "scienceqa_official_table_on_rescored"),
        (recorded.scienceqa_results(tmp_path, column), "scienceqa_official_table_on_recorded_results"),
    ):
        found = score("scienceqa", path, problems, "official").figures
        assert {key: f"{found[name]:.2f}" for key, name in names.items()} == expected[table]
    found = score("scienceqa", answers, problems, "llava15")
    same(found.figures["accuracy"], expected["rescored_with_eval_science_qa"]["acc_percent"])
    assert sum(found.values.values()) == expected["rescored_with_eval_science_qa"]["correct"]
    assert f"IMG-Accuracy: {found.figures['IMG']:.2f}%" in expected["rescored_with_eval_science_qa"]["printed"]


def test_mmbench(tmp_path: Path) -> None:
    expected = content("mmbench/expected.json")["real_llava_v1_5_13b"]
    answers, truth = recorded.mmbench(tmp_path)
    found = score("mmbench", answers, truth, "official")
    assert (found.n, found.figures["groups"]) == (expected["n_rows"], expected["n_groups"])
    same(found.figures["circular"], expected["vlmevalkit_exact_matching"]["circular_overall"])
    same(found.figures["first_pass"], expected["vlmevalkit_exact_matching"]["vanilla_first_pass_overall"])
    same(found.figures["rows"], expected["plain_per_row_accuracy"])
    hits = {str(group["g_index"]): group["hit"] for group in lines("mmbench/real_llava15_13b_dev_20230712.jsonl")}
    assert found.values == hits
    same(score("mmbench", answers, truth, "lmms").figures["circular"], expected["lmms_eval_static_overall"])


@pytest.mark.parametrize("column", ["llava_v1_5_13b", "gpt4v"])
def test_seedbench(tmp_path: Path, column: str) -> None:
    expected = content("seed-bench/expected.json")["real"][column]
    answers, truth = recorded.seed(tmp_path, column)
    found = score("seedbench", answers, truth, "llava15")
    for kind in ("image", "video"):
        correct, total = expected[f"{kind}_correct_total"]
        same(found.figures[kind], 100 * correct / total)
        assert f"{kind} accuracy: {found.figures[kind]:.2f}%" in expected["scored"]["printed"]
    assert f"Total accuracy: {found.figures['total']:.2f}%" in expected["scored"]["printed"]


# ---- yes or no -------------------------------------------------------------------------------------------------------


def test_pope(tmp_path: Path) -> None:
    expected = content("pope/expected.json")["real"]["llava_v1_5_13b"]
    answers, labels = recorded.pope(tmp_path)
    official, lmms = (score("pope", answers, labels, name).figures for name in ("official", "lmms"))
    same(official["mean_f1"], expected["mean_f1_over_three_categories"])
    for name, figures in expected["official"].items():
        for key in ("accuracy", "precision", "recall", "f1", "yes_ratio"):
            same(official[name][key], figures[key])
        assert {key.upper(): official[name][key] for key in ("tp", "fp", "tn", "fn")} == figures["counts"]
        theirs = dict(figures["lmms_eval"])
        same(lmms[name]["yes_ratio_of_labels"], theirs.pop("yes_ratio_of_LABELS"))
        for key, value in theirs.items():
            same(lmms[name][key], value)


@pytest.mark.parametrize(("name", "key"), [("real_llava15_13b", "real_llava_v1_5_13b"), ("real_lavin", "real_lavin")])
def test_mme(tmp_path: Path, name: str, key: str) -> None:
    expected = content("mme/expected.json")[key]
    answers, truth = recorded.mme(tmp_path, name)
    found = score("mme", answers, truth, "official").figures
    same(found["perception"], expected["official"]["perception_total"])
    same(found["cognition"], expected["official"]["cognition_total"])
    names = {"n_images": "images", "n_questions": "questions", "acc": "accuracy", "acc_plus": "accuracy_plus"}
    names |= {"TP": "tp", "FN": "fn", "TN": "tn", "FP": "fp", "other_num": "other"}
    assert found["categories"].keys() == expected["official"]["per_category"].keys()
    for category, figures in expected["official"]["per_category"].items():
        for theirs, value in figures.items():
            same(found["categories"][category][names.get(theirs, theirs)], value)
    lmms = score("mme", answers, truth, "lmms").figures
    same(lmms["perception"], expected["lmms_eval"]["mme_perception_score"])
    same(lmms["cognition"], expected["lmms_eval"]["mme_cognition_score"])


# ---- short answers ---------------------------------------------------------------------------------------------------


def test_gqa(tmp_path: Path) -> None:
    expected = content("gqa/expected.json")
    cases = lines("gqa/cases.jsonl")
    for protocol, key in (("official", "official_correct_without_conversion"), ("llava15", "official_correct")):
        found = score("gqa", *recorded.gqa(tmp_path), protocol)
        counted = {case["questionId"]: expected["per_case"][case["id"]] for case in cases}
        right = {name: float(case[key]) for name, case in counted.items() if case["counted"]}
        assert found.values == right
        same(found.figures["accuracy"], 100 * sum(right.values()) / len(right))
    found = score("gqa", *recorded.gqa(tmp_path), "lmms")
    theirs = {case["questionId"]: expected["per_case"][case["id"]]["lmms_eval_exact_match"] for case in cases}
    assert found.values == {name: theirs[name] for name in found.values}
    for text, converted in expected["real_conversion"]["unique_text_to_prediction"].items():
        assert gqa.converted(text) == converted


def test_textvqa(tmp_path: Path) -> None:
    expected = content("textvqa/expected.json")
    for case in lines("textvqa/cases.jsonl"):
        theirs = expected["per_case"][case["id"]]
        assert asked_in(case["prompt"]) == theirs["prompt_question"]
        assert n2(case["prediction"]) == theirs["normalised_prediction"]
        assert [n2(answer) for answer in case["answers"]] == theirs["normalised_answers"]
        for answer, value in theirs["unique_answer_scores"].items():
            same(n2_accuracy(answer, case["answers"]), value)
        same(n2_accuracy(case["prediction"], case["answers"]), theirs["accuracy"])
        same(anls(case["prediction"], case["answers"]), theirs["stvqa_anls"])
    for text, normalised in expected["real_normalisation"]["map"].items():
        assert n2(text) == normalised
    for protocol, key in (("llava15", "accuracy"), ("lmms", "lmms_eval_exact_match")):
        found = score("textvqa", *recorded.textvqa(tmp_path), protocol)
        values = [expected["per_case"][case["id"]][key] for case in lines("textvqa/cases.jsonl")]
        same(found.figures["accuracy"], 100 * sum(values) / len(values))
    exact = [case["stvqa_accuracy"] for case in expected["per_case"].values()]
    same(found.figures["stvqa_accuracy"], 100 * sum(exact) / len(exact))


def test_vizwiz_uploads_are_what_llava_uploaded() -> None:
    rows = lines("vizwiz/real_llava15_13b_upload.jsonl")
    assert len(rows) == content("vizwiz/expected.json")["real_upload"]["rows"]
    assert [n2(row["text"]) for row in rows] == [row["upload_answer"] for row in rows]


# ---- judged ----------------------------------------------------------------------------------------------------------


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    keys = {"relative": "relative", "reference": "reference_x10", "model": "model_x10"}
    groups = {"all": figures, **figures["categories"]}
    return {name: {theirs: group[ours] for ours, theirs in keys.items()} for name, group in groups.items()}


@pytest.mark.parametrize(
    ("name", "key"), [("real_reviews_in_the_wild", "real_in_the_wild"), ("real_reviews_vicuna80", "real_vicuna80")]
)
def test_llava_bench(tmp_path: Path, name: str, key: str) -> None:
    expected = content("llava_bench/expected.json")[key]
    files = recorded.reviews(tmp_path, name)
    for file, groups in expected["per_file"].items():
        found = summary(score("llava-bench", files[file], [], "llava15").figures)
        for group in groups.values():
            group.pop("line")
        assert found == groups
    for model, means in expected.get("mean_relative_over_3_gpt4_runs", {}).items():
        runs = [path for file, path in files.items() if file.startswith(model)]
        found = summary(score("llava-bench", runs, [], "llava15").figures)
        assert {group: round(figures["relative"], 4) for group, figures in found.items()} == means


@pytest.mark.parametrize(
    "run", ["llava-v1.5-13b_1runs", "llava-v1.5-13b_3runs", "llava-v1.5-7b_1runs", "llava-v1.5-7b_3runs"]
)
def test_mmvet(tmp_path: Path, run: str) -> None:
    expected = content("mm-vet/expected.json")["real"][run]["recomputed"]
    found = score("mmvet", *recorded.mmvet(tmp_path, run), "official").figures
    totals = {name: found[name] for name in ("total", "std")} | {"runs": str(found["runs"])}
    assert {**found["capability"], **totals} == expected["capability"]
    assert {**found["integration"], **totals} == expected["capability_integration"]


# ---- captions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco_leave_one_out", "coco_gpt4_detail_answers"])
def test_captions(tmp_path: Path, name: str) -> None:
    expected = content("textcaps/expected.json")["sets"][name]
    cases = [case for case in lines("textcaps/cases.jsonl") if case["set"] == name]
    found = score("coco-caption", *recorded.captions(tmp_path, name), "official").figures
    assert found["METEOR"] is None
    for key, value in expected["overall"].items():
        if key != "METEOR":
            same(found[key], value)
    given, truths = [c["tokenized_prediction"] for c in cases], [c["tokenized_references"] for c in cases]
    each = {"CIDEr": cider_d(given, truths).each, "ROUGE_L": rouge_l(given, truths).each}
    each |= {f"Bleu_{n}": metric.each for n, metric in enumerate(bleu(given, truths), start=1)}
    for position, (case, theirs) in enumerate(zip(cases, expected["per_case"], strict=True)):
        assert case["id"] == theirs["id"]
        for key, values in each.items():
            same(values[position], theirs[key])


@pytest.mark.parametrize("name", ["coco_leave_one_out", "coco_gpt4_detail_answers"])
def test_captions_are_tokenised_as_the_original_does(name: str) -> None:
    cases = [case for case in lines("textcaps/cases.jsonl") if case["set"] == name]
    assert tokenise([case["prediction"] for case in cases]) == [case["tokenized_prediction"] for case in cases]
    references = [text for case in cases for text in case["references"]]
    assert tokenise(references) == [text for case in cases for text in case["tokenized_references"]]
