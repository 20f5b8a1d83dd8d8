"""A checkpoint far larger than one shard goes through memory one tensor at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.exchange.foreign import original_config, tiny_llava, tokenizer, write_json, write_tower

MEGABYTE = 2**20
# Prints the memory in use before the second import, and the most that was in use in it, in kilobytes. The first import
# warms everything up; writing 5 to clear_refs makes the kernel forget the highest use so far (proc_pid_clear_refs(5)).
PROGRAM = """
import re, sys
from pathlib import Path
from sightline.exchange.import_checkpoint import import_checkpoint

def memory(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

small, ours_small, large, ours_large = sys.argv[1:]
import_checkpoint(small, Path(ours_small), say=lambda line: None)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
import_checkpoint(large, Path(ours_large), say=lambda line: None)
print(before, memory("VmHWM"))
"""


def write_wide(directory: Path, *, width: int, shards: int) -> int:
    """A checkpoint of this width in `shards` .bin files, made shard by shard; the bytes of its weights."""
    directory.mkdir(parents=True)
    model = tiny_llava()
    model.language.config.update({"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": shards})
    write_json(directory / "config.json", original_config(model))
    tokenizer().save_pretrained(directory)
    with torch.device("meta"):
        language = type(model.language)(model.language.config)
    shapes = {name: tensor.shape for name, tensor in language.state_dict().items()}
    shapes |= {"model.mm_projector.0.weight": (width, 32), "model.mm_projector.2.weight": (width, width)}
    shapes |= {"model.mm_projector.0.bias": (width,), "model.mm_projector.2.bias": (width,)}
    places, total = {}, 0
    for number in range(shards):
        file = f"pytorch_model-{number:05d}.bin"
        names = [name for name in shapes if (f"layers.{number}." in name) or ("layers." not in name and not number)]
        part = {name: torch.full(shapes[name], 0.03, dtype=torch.float16) for name in names}
        torch.save(part, directory / file)
        places |= dict.fromkeys(part, file)
        total += sum(tensor.nbytes for tensor in part.values())
    write_json(directory / "pytorch_model.bin.index.json", {"weight_map": places})
    return total


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc that tells a process's memory")
def test_memory_holds_one_shard_at_most(tmp_path: Path) -> None:
    write_tower(tmp_path / "tower", tiny_llava())
    write_wide(tmp_path / "small", width=32, shards=1)
    width = 2048
    total = write_wide(tmp_path / "large", width=width, shards=4)
    assert total > 250 * MEGABYTE
    arguments = [str(tmp_path / name) for name in ("small", "ours-small", "large", "ours-large")]
    # A tensor of a real checkpoint is always given back to the system when it is let go. glibc keeps smaller ones, like
    # these, unless its threshold is fixed (mallopt(3), M_MMAP_THRESHOLD).
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(MEGABYTE)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    before, after = (int(number) * 1024 for number in done.stdout.split())
    written = json.loads((tmp_path / "ours-large" / "manifest.json").read_text())["files"]["model.safetensors"]
    assert written["bytes"] > total
    # One shard mapped from its file, and what looking for infinities in its largest tensor takes. Two shards are more.
    shard = max(path.stat().st_size for path in (tmp_path / "large").glob("*.bin"))
    tensor = 3 * width * width * torch.float16.itemsize
    assert after - before < shard + 3 * tensor < 2 * shard, f"{(after - before) / MEGABYTE:.0f} MiB"
