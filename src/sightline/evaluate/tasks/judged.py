"""What a judge has graded: LLaVA-Bench (in the wild, COCO) and MM-Vet. Judging itself is done elsewhere.

Comes in: LLaVA's review files, MM-Vet's grade file. Goes out: the tables of summarize_gpt_review.py and of
mm-vet_evaluator.py (yuweihao/MM-Vet acde843e), with their roundings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.errors import DataError
from sightline.evaluate.result_files import object_lines, read_json, refuse
from sightline.evaluate.results import Result, figure, nulled
from sightline.evaluate.tasks.task import Rules, chosen

FAILED = (-1.0, -1.0)


def review_scores(review: str) -> tuple[float, float]:
    """The two scores on the first line of a review, reference and model; (-1, -1) where they are not two numbers.

    Commas are blanks, and single blanks part: `8  9` and `8, 9` have three parts (LLaVA's eval_gpt_review_bench.py).
    """
    parts = review.split("\n")[0].replace(",", " ").split(" ")
    try:
        return (float(parts[0]), float(parts[1])) if len(parts) == 2 else FAILED
    except ValueError:
        return FAILED


def relative(scores: Sequence[tuple[float, float]]) -> dict[str, float | None]:
    """Of pairs of reference and model: means rounded to three places, their ratio to one; means times ten to one."""
    if not scores:
        return {"relative": None, "reference": None, "model": None}
    reference, model = (round(float(value), 3) for value in np.asarray(scores).mean(0))
    ratio = round(model / reference * 100, 1) if reference else None
    return {"relative": ratio, "reference": round(reference * 10, 1), "model": round(model * 10, 1)}


@dataclass(frozen=True, kw_only=True)
class ReviewTask:
    """LLaVA-Bench: each file of reviews is one run of the judge; the figures are means over the files."""

    name: str
    title: str
    protocols: Mapping[str, Rules]
    metric: str = "relative"

    def evaluate(self, predictions: Sequence[Path], annotations: Sequence[Path], protocol: str) -> Result:
        """Annotations may be left out; questions.jsonl tells which reviews are missing.

        Raises:
            DataError: a file is none of reviews.
        """
        rules = chosen(self.protocols, protocol, self.name)
        wanted = {str(entry["question_id"]) for path in annotations for entry in object_lines(path, "question_id")}
        runs, failed, missing, extra, doubled = [], 0, 0, 0, 0
        values: dict[str, list[float]] = {}
        for path in predictions:
            reviews = _reviews(path)
            answered = {name for name, _, _ in reviews}
            missing += len(wanted - answered)
            extra += sum(name not in wanted for name in answered) if wanted else 0
            doubled += len(reviews) - len(answered)
            failed += sum(scores == FAILED for _, _, scores in reviews)
            if protocol == "official":
                reviews = [review for review in reviews if review[2] != FAILED]
            runs.append(_summary([(category, scores) for _, category, scores in reviews]))
            for name, _, (_, model) in reviews:
                values.setdefault(name, []).append(model / 10)
        if wanted and not wanted & values.keys():
            raise refuse(predictions[0], f"no review is of a question of {annotations[0]}", reason="wrong_split")
        figures = _mean_of_runs(runs)
        n = len(wanted) or len(values)
        return Result(
            task=self.name,
            protocol=protocol,
            rules=rules.says,
            metric=self.metric,
            n=n,
            answered=len(values),
            missing=missing,
            extra=extra,
            doubled=doubled,
            unparsable=failed,
            figures=nulled(figures) if missing else figures,
            answered_only=figures if missing else None,
            notes=(f"{missing} reviews are missing: no figure is given",) if missing else (),
            values={name: float(np.mean(scores)) for name, scores in values.items()},
            decimals=1,
        )


def _reviews(path: Path) -> list[tuple[str, str, tuple[float, float]]]:
    """Id, category and scores of each review: `tuple`, or `score`, or the first line of `content`."""
    found = []
    for number, entry in enumerate(object_lines(path, "question_id"), start=1):
        pair, review = entry.get("tuple", entry.get("score")), entry.get("content", entry.get("text"))
        if pair is None and isinstance(review, str):
            pair = review_scores(review)
        if (
            not isinstance(pair, list | tuple)
            or len(pair) != 2
            or not all(isinstance(one, int | float) for one in pair)
        ):
            raise refuse(f"{path}: review {number}", "no scores: expected tuple, score, or content to parse")
        found.append((str(entry["question_id"]), str(entry.get("category", "")), (float(pair[0]), float(pair[1]))))
    if not found:
        raise refuse(path, "no reviews in it", reason="no_answers")
    return found


def _summary(reviews: Sequence[tuple[str, tuple[float, float]]]) -> dict[str, Any]:
    """`all` is over reviews, not over categories."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for category, scores in reviews:
        if category:
            groups.setdefault(category, []).append(scores)
    categories = {name: relative(groups[name]) for name in sorted(groups)}
    return {**relative([scores for _, scores in reviews]), "categories": categories}


def _mean_of_runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {name: _mean([run[name] for run in runs]) for name in ("relative", "reference", "model")}
    categories = sorted({name for run in runs for name in run["categories"]})
    found["categories"] = {
        name: {
            key: _mean([figure(run, f"categories.{name}.{key}") for run in runs])
            for key in ("relative", "reference", "model")
        }
        for name in categories
    }
    if len(runs) > 1:
        found["runs"] = [run["relative"] for run in runs]
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, kw_only=True)
class GradeTask:
    """MM-Vet: grades from 0 to 1, in one or several runs of the judge, by capability and by their combination."""

    name: str
    title: str
    protocols: Mapping[str, Rules]
    metric: str = "total"

    def evaluate(self, predictions: Sequence[Path], annotations: Sequence[Path], protocol: str) -> Result:
        """Reads MM-Vet's grade file, `id -> {score: [...]}`, and mm-vet.json.

        Raises:
            DataError: a file is another one, or a grade is not in 0 to 1.
        """
        rules = chosen(self.protocols, protocol, self.name)
        capabilities = _capabilities(annotations)
        grades: dict[str, list[float]] = {}
        for path in predictions:
            for key, scores in _grades(path).items():
                grades.setdefault(key, []).extend(scores)
        known = {key: scores for key, scores in grades.items() if key in capabilities}
        if not known:
            raise refuse(predictions[0], f"no grade is of a question of {annotations[0]}", reason="wrong_split")
        lengths = Counter(len(scores) for scores in known.values())
        runs = lengths.most_common(1)[0][0]
        odd = next((key for key, scores in known.items() if len(scores) != runs), None)
        if odd is not None:
            raise refuse(predictions[0], f"{odd} has {len(known[odd])} grades, the others have {runs}")
        missing = len(capabilities) - len(known)
        figures = grade_tables({key: capabilities[key] for key in known}, known)
        return Result(
            task=self.name,
            protocol=protocol,
            rules=rules.says,
            metric=self.metric,
            n=len(capabilities),
            answered=len(known),
            missing=missing,
            extra=len(grades) - len(known),
            figures=nulled(figures) if missing else figures,
            answered_only=figures if missing else None,
            notes=(f"{missing} of {len(capabilities)} questions have no grade: no figure is given",) if missing else (),
            values={key: float(np.mean(scores)) for key, scores in known.items()},
            decimals=1,
        )


def _capabilities(paths: Sequence[Path]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict) or not all(
            isinstance(e, dict) and "capability" in e for e in content.values()
        ):
            raise refuse(path, "expected mm-vet.json: id -> {question, answer, capability}")
        found |= {key: list(entry["capability"]) for key, entry in content.items()}
    if not found:
        raise DataError("mmvet: needs --annotations mm-vet.json, which has the capabilities", reason="file_missing")
    return found


def _grades(path: Path) -> dict[str, list[float]]:
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise refuse(path, "expected a grade file of MM-Vet: id -> {score: [...]}", reason="no_answers")
    found = {}
    for key, entry in content.items():
        scores = entry.get("score") if isinstance(entry, dict) else None
        if not isinstance(scores, list) or not all(isinstance(s, int | float) and 0 <= s <= 1 for s in scores):
            raise refuse(
                path,
                f"{key}: expected {{score: [numbers from 0 to 1]}}, a judge's grades; the server at MM-Vet's "
                "site grades answers",
            )
        found[key] = [float(score) for score in scores]
    return found


def grade_tables(capabilities: Mapping[str, Sequence[str]], grades: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Both tables of the official script: percent, to one place, as numpy rounds the mean over runs."""
    members: dict[str, list[str]] = {}
    combined: dict[str, list[str]] = {}
    for key in grades:
        names = sorted(set(capabilities[key]))
        for name in names:
            members.setdefault(name, []).append(key)
        combined.setdefault("_".join(names), []).append(key)

    def per_run(keys: Sequence[str]) -> Any:
        return np.array([sum(run) for run in zip(*(grades[key] for key in keys), strict=True)]) / len(keys) * 100

    def rounded(value: Any) -> float:
        return float(np.round(value, 1))

    totals = per_run(list(grades))
    return {
        "total": rounded(totals.mean()),
        "std": rounded(totals.std()),
        "runs": [rounded(total) for total in totals],
        "capability": {name: rounded(per_run(keys).mean()) for name, keys in _by_size(members)},
        "integration": {name: rounded(per_run(keys).mean()) for name, keys in _by_size(combined)},
    }


def _by_size(groups: Mapping[str, list[str]]) -> list[tuple[str, list[str]]]:
    return sorted(groups.items(), key=lambda item: -len(item[1]))


_REVIEWS = {
    "official": Rules("means of the judge's scores, model over reference; reviews without two scores are left out"),
    "llava15": Rules("as official, but reviews without two scores count as -1 and -1"),
}
LLAVA_BENCH = ReviewTask(name="llava-bench", title="LLaVA-Bench (In-the-Wild)", protocols=_REVIEWS)
LLAVA_BENCH_COCO = ReviewTask(name="llava-bench-coco", title="LLaVA-Bench (COCO)", protocols=_REVIEWS)
MMVET = GradeTask(
    name="mmvet",
    title="MM-Vet",
    protocols={"official": Rules("means of the judge's grades"), "llava15": Rules("as official")},
)
