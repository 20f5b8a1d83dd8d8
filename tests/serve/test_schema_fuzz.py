"""What the OpenAPI document promises, asked at random: `schemathesis` against a real server.

For hours instead of seconds: `sightline serve CHECKPOINT --collect FILE`, and beside it
`st run http://127.0.0.1:8000/openapi.json --checks all --exclude-checks positive_data_acceptance --max-examples 1000`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sightline.serve.feedback import Collection
from tests.serve.running import running
from tests.tiny_checkpoint import tiny_assistant

EXAMPLES, SEED = 12, 7
"""Requests of each operation, and whence they are drawn."""


def test_the_server_keeps_what_its_document_promises_whatever_it_is_sent(tmp_path: Path) -> None:
    """No 5xx; statuses, types and schemas are the document's; what the schema forbids is refused.

    What it allows may be refused too: that roles alternate, or that a model is served, no schema can say.
    """
    pytest.importorskip("schemathesis", reason="needs schemathesis: pip install schemathesis")
    model = tiny_assistant(context=96)  # so that every answer is short
    with running(model, collection=Collection(tmp_path / "kept.jsonl")) as served:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.address}/openapi.json"]
        command += ["--phases", "fuzzing", "--max-examples", str(EXAMPLES), "--seed", str(SEED), "--no-shrink"]
        command += ["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--generation-database", "none"]
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert served.service.refusals.total() > EXAMPLES, "it was asked"
        assert not [code for status, code in served.service.refusals if status >= 500]
        assert served.service.taken == 0
        assert served.lines == []
