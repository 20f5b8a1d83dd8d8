"""Short ways to write the files of a benchmark and to score them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.evaluate.results import Result
from sightline.evaluate.score import score_files


class Place:
    """A folder in which files are written under the names given; a list under a name ending in l is JSON lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, content: Any) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        elif name.endswith("l"):
            path.write_text("".join(json.dumps(line) + "\n" for line in content))
        else:
            path.write_text(json.dumps(content))
        return path

    def score(
        self,
        task: str,
        answers: Any,
        truths: Mapping[str, Any],
        protocol: str = "official",
        *,
        name: str = "answers.json",
        strict: bool = False,
    ) -> Result:
        """Writes the answers and the annotations, each under its name, and scores the former."""
        given: Sequence[Path] = [self.write(name, answers)]
        paths = [self.write(key, value) for key, value in truths.items()]
        return score_files(task, given, paths, protocol=protocol, strict=strict)
