"""What a check found, for people and programs: lines, one JSON object, one HTML page.

Comes in: `Findings`. Goes out: text. What somebody wrote is text, and stays text on the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sightline.atomic import write_atomic
from sightline.data.checks import Findings
from sightline.data.sample import Rejection

ON_PAGE = 50
"""Problems of each reason on the page; the JSON has all."""


def lines(findings: Findings) -> Iterator[str]:
    """Every problem on a line, and the counts."""
    for problem in findings.problems:
        yield f"{problem.reason}: {problem.message}"
    if _omitted(findings):
        yield f"... and {_omitted(findings):,} more problems"
    for reason, count in findings.counts.most_common():
        yield f"{count:>9,}  {reason}"
    yield f"{findings.clean:,} of {findings.samples:,} samples are clean, {findings.pictures:,} pictures checked"


def to_json(findings: Findings, *, written: list[Path]) -> dict[str, Any]:
    """As `sightline check --json` prints it."""
    return {
        "files": [
            {"path": str(each.path), "samples": len(each), "bad": len(each.bad), "broken_at": each.broken_at}
            for each in findings.files
        ],
        "samples": findings.samples,
        "clean": findings.clean,
        "pictures": findings.pictures,
        "counts": dict(findings.counts.most_common()),
        "problems": [asdict(problem) for problem in findings.problems],
        "omitted": _omitted(findings),
        "written": [str(path) for path in written],
    }


def write_page(path: Path, findings: Findings) -> None:
    """One page that needs nothing beside it, whole or not at all."""
    by_reason: dict[str, list[Rejection]] = {reason: [] for reason, _ in findings.counts.most_common()}
    for problem in findings.problems:
        if len(by_reason[problem.reason]) < ON_PAGE:
            by_reason[problem.reason].append(problem)
    environment = Environment(
        loader=PackageLoader("sightline.data", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("check.html.j2").render(findings=findings, by_reason=by_reason)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)


def _omitted(findings: Findings) -> int:
    return findings.counts.total() - len(findings.problems)
