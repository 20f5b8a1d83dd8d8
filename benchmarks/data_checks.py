"""`sightline check`: what it finds of planted defects, and how long a large file takes it.

Comes in: how many samples. Goes out: two tables: precision and recall for each class of defect (over pairs of a line
and a reason), and seconds and memory for a file of clean samples, with its processes added up.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks.planted import SEED, clean_sample, plant
from benchmarks.record import Row, Table
from sightline.config import load_recipe
from sightline.data.checks import Settings, check_files
from sightline.data.processor import Processor
from sightline.train.assemble import assemble_processor

ROOT = Path(__file__).parents[1]
PICTURES = 10_000
WORDS = "It lies there quietly, as it did yesterday and the day before, and nobody has moved it since. "

Say = Callable[[str], None]


def run(*, samples: int, clean: int, each: int, say: Say) -> list[Table]:
    """Planted defects, then `samples` clean lines."""
    say(f"checks: {each} defects of every class among {clean} samples")
    with tempfile.TemporaryDirectory() as scratch:
        first = planted_defects(Path(scratch), clean=clean, each=each)
    say(f"checks: {samples:,} lines")
    with tempfile.TemporaryDirectory() as scratch:
        second = large_file(Path(scratch), samples=samples)
    return [first, second]


def small_processor() -> Processor:
    """That of the embedded parts, with room for 256 positions."""
    recipe = load_recipe(ROOT / "recipes" / "demo" / "align.yaml", ["template=own", "max_length=256"])
    return assemble_processor(recipe)


def planted_defects(folder: Path, *, clean: int, each: int) -> Table:
    """Precision and recall by reason; the last rows are all of them, and the same samples without any defect."""
    settings = Settings(processor=small_processor())
    rows: list[Row] = []
    for name, count in (("bad", each), ("clean", 0)):
        planted = plant(folder / name, clean=clean, each=count)
        found = check_files(
            [planted.data], settings, images=planted.images, evaluation=[planted.evaluation], say=lambda line: None
        )
        wanted = {(line, reason) for reason, lines in planted.expected.items() for line in lines}
        reported = {(problem.line, problem.reason) for problem in found.problems}
        reasons = sorted({reason for _, reason in wanted | reported})
        for reason in reasons:
            rows.append(
                _row(reason, {one for one in wanted if one[1] == reason}, {one for one in reported if one[1] == reason})
            )
        rows.append(_row(f"all ({name})", wanted, reported) | {"clean": found.clean, "samples": found.samples})
    return Table(title=f"check: {each} planted defects of each class among {clean} samples", rows=rows)


def _row(name: str, wanted: set[tuple[int, str]], reported: set[tuple[int, str]]) -> Row:
    """Precision of none reported is 1, and so is recall of none planted."""
    hits = len(wanted & reported)
    return {
        "defect": name,
        "planted": len(wanted),
        "reported": len(reported),
        "precision": hits / len(reported) if reported else 1.0,
        "recall": hits / len(wanted) if wanted else 1.0,
    }


def large_file(folder: Path, *, samples: int) -> Table:
    """Seconds and memory of the command on a clean JSONL file: no picture is decoded, nothing kept from before."""
    data, images = write_large(folder, samples=samples)
    command = [sys.executable, "-c", "from sightline.cli import main; main()"]
    command += ["check", str(data), "--images", str(images), "--json"]
    environment = {**os.environ, "SIGHTLINE_CACHE": str(folder / "cache")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        peak = 0
        while running.poll() is None:
            peak = max(peak, sum(_resident(each) for each in _family(running.pid)))
            time.sleep(0.2)
        assert running.stdout is not None
        found = json.loads(running.stdout.read())
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    row = {
        "samples": found["samples"],
        "MB": data.stat().st_size / 1e6,
        "pictures": found["pictures"],
        "problems": sum(found["counts"].values()),
        "seconds": seconds,
        "seconds of a core": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "samples/s": found["samples"] / seconds,
        "peak MiB, all processes": peak / 2**20,
    }
    return Table(title=f"check: a JSONL file on {len(os.sched_getaffinity(0))} cores", rows=[row])


def write_large(folder: Path, *, samples: int) -> tuple[Path, Path]:
    """Clean samples, some 600 bytes each, about `PICTURES` small pictures."""
    data, images = folder / "large.jsonl", folder / "images"
    images.mkdir(parents=True)
    for number in range(min(PICTURES, samples)):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 0)).save(images / f"{number}.png")
    luck = random.Random(SEED)
    with data.open("w") as file:
        for number in range(samples):
            sample = clean_sample(number, luck)
            if "image" in sample:
                sample["image"] = f"{number % min(PICTURES, samples)}.png"
            for turn in itertools.islice(sample["conversations"], 1, None, 4):
                turn["value"] += " " + WORDS * (1 + number % 4)
            file.write(json.dumps(sample) + "\n")
    return data, images


def _family(process: int) -> list[int]:
    """A process and its descendants (Linux)."""
    found = [process]
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [each for child in path.read_text().split() for each in _family(int(child))]
        except OSError:
            continue
    return found


def _resident(process: int) -> int:
    """Bytes of resident memory; what processes share counts for each of them."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
