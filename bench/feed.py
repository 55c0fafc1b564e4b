"""The feed: 512-token samples at random from a corpus of 1 GB on local disk, against a bare numpy loop, MosaicML streaming and WebDataset.

All read the same tokens as uint16 and give batches of 32 x 513 int64; the page cache is warm for all. The bare loop is the usual one:
random places in one `numpy.memmap`, a slice for each sample; beside it stands the quickest that numpy can do, rows of one file gathered by
one call. The peers run in environments of their own, in the form that each writes
itself: MDS shards shuffled by `py1e`, tar shards shuffled with a buffer of 1,000 samples (WebDataset reads no sample at random). Rounds
are interleaved. Images: JPEG of 256 x 256 resized to 224 x 224, decoded by two threads, and by two processes of a pool for comparison.
Streaming: 64 MB from an S3 service on this machine, with nothing in the node's cache and with all of it. Does not know: the training loop.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bedplate.data.feed.derived import ShardWriter, derive
from bedplate.data.feed.derived import publish as put_into
from bedplate.data.feed.images import decoded
from bedplate.data.feed.records import Manifest
from bedplate.data.feed.samples import open_feed
from bedplate.data.feed.store import open_store
from bedplate.data.feed.table import SPLITS
from bench.peers import python_of
from bench.table import Row

SEQUENCE, BATCH = 512, 32
SAMPLES = 1_000_000_000 // (2 * (SEQUENCE + 1))
ROUNDS, SECONDS = 5, 3.0
PEERS = {
    "MosaicML streaming": ("mosaicml", ["mosaicml-streaming==0.13.0", "torch==2.13.0", "setuptools<81"]),
    "WebDataset": ("webdataset", ["webdataset==1.0.2", "torch==2.13.0"]),
}


def rows() -> list[Row]:
    """The lines of the table."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(name)
        ours = corpus(folder)
        return [*against(folder, ours), *images(folder), *streamed(folder)]


def corpus(folder: Path) -> Path:
    """1 GB of random tokens as our shards and, the same, as one flat file; the folder of ours."""

    def write(into: Path) -> Manifest:
        dtype = [["tokens", "<u2", [SEQUENCE + 1]]]
        manifest = Manifest("tokens", dtype, {}, {"sequence": SEQUENCE})
        writer = ShardWriter(into, manifest.record)
        with (folder / "flat.bin").open("wb") as flat:
            for chunk in tokens(SAMPLES):
                flat.write(chunk.tobytes())
                records = np.empty(len(chunk), manifest.record)
                records["tokens"] = chunk
                writer.add("train", records)
        return Manifest("tokens", dtype, writer.end(SPLITS), {"sequence": SEQUENCE})

    return derive(folder / "ours", {"bench": SAMPLES}, write).folder


def tokens(samples: int) -> Iterator[np.ndarray]:
    """Seeded random tokens [n, sequence + 1], some thousand samples at a time."""
    generator = np.random.default_rng(0)
    for first in range(0, samples, 20_000):
        yield generator.integers(0, 50_000, (min(20_000, samples - first), SEQUENCE + 1), dtype=np.uint16)


def rate(batches: Iterator[Any], per_batch: int, seconds: float = SECONDS) -> float:
    """Samples a second over `seconds`, after a first tenth that is not counted."""
    for limit_s in (seconds / 10, seconds):
        count, began_s = 0, time.perf_counter()
        for _ in batches:
            count += per_batch
            if time.perf_counter() - began_s >= limit_s:
                break
    return count / (time.perf_counter() - began_s)


def bare(folder: Path) -> Iterator[np.ndarray]:
    """The loop that everybody writes."""
    data = np.memmap(folder / "flat.bin", np.uint16, "r")
    generator = np.random.default_rng(1)
    width = SEQUENCE + 1
    while True:
        places = generator.integers(0, SAMPLES, BATCH) * width
        yield np.stack([data[place : place + width].astype(np.int64) for place in places])


def gathered(folder: Path) -> Iterator[np.ndarray]:
    """The quickest that numpy can do: rows of a fixed width out of one file, gathered by a single call."""
    data = np.asarray(np.memmap(folder / "flat.bin", np.uint16, "r").reshape(SAMPLES, SEQUENCE + 1))
    generator = np.random.default_rng(1)
    while True:
        yield data[generator.integers(0, SAMPLES, BATCH)].astype(np.int64)


def fed(feed: Any) -> Iterator[Any]:
    """Epoch after epoch of our feed."""
    for epoch in range(1_000_000):
        yield from feed.batches("train", batch_size=BATCH, rank=0, world_size=1, epoch=epoch, seed=0)


def against(folder: Path, ours: Path) -> list[Row]:
    """Ours beside the bare loop and the peers, interleaved."""
    feed = open_feed(ours, folder / "cache", 1)
    feed.in_order("train", 1).__next__()
    for shard in (ours.iterdir(), [folder / "flat.bin"]):
        for path in shard:
            warm(path)
    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: rate(fed(feed), BATCH),
        "numpy memmap loop": lambda: rate(bare(folder), BATCH),
        "numpy gather of one file": lambda: rate(gathered(folder), BATCH),
    }
    peers = contextlib.ExitStack()
    for name, (module, requirements) in PEERS.items():
        process = peers.enter_context(peer(python_of(module, requirements), module, folder))
        contenders[name] = lambda process=process: asked(process)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    with peers:
        for _ in range(ROUNDS):
            for name, work in contenders.items():
                found[name].append(work())
                print(f"feed: {name}: {found[name][-1]:.0f} samples/s", file=sys.stderr)
    limits = {"numpy memmap loop": 0.5, "numpy gather of one file": 0.5}
    spread = f"{min(found['ours']):.3g} to {max(found['ours']):.3g}"
    mine = statistics.median(found["ours"])
    return [
        Row("feed: 512-token samples, random", mine, "samples/s", spread, statistics.median(values), name, limits.get(name, 3.0), True)
        for name, values in found.items()
        if name != "ours"
    ]


def warm(path: Path) -> None:
    """Read a file into the page cache."""
    with path.open("rb") as file:
        while file.read(16 << 20):
            pass


@contextlib.contextmanager
def peer(python: Path, module: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A peer's process that answers each line with a rate."""
    script = Path(__file__).with_name("feed_peer.py")
    argv = [str(python), str(script), module, str(folder), str(SAMPLES), str(SEQUENCE), str(BATCH), str(SECONDS)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the peer {module} did not start")
        yield process
    finally:
        process.kill()
        process.wait()


def asked(process: subprocess.Popen[str]) -> float:
    """One round of a peer."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def images(folder: Path) -> list[Row]:
    """JPEG decoding by the feed's two threads, and by two processes."""
    generator = np.random.default_rng(0)
    encoded = []
    for _ in range(1024):
        small = Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((256, 256), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())

    def write(into: Path) -> Manifest:
        dtype = [["at", "<u8"], ["bytes", "<u4"], ["partition", "<i4"], ["offset", "<i8"], ["label", "<i8"]]
        facts = {"size": [224, 224], "source": "photos", "classes": ["one"]}
        writer = ShardWriter(into, np.dtype([tuple(each) for each in dtype]))
        writer.add("train", np.zeros(len(encoded), [tuple(each) for each in dtype]), encoded)
        return Manifest("images", dtype, writer.end(SPLITS), facts, "label")

    made = derive(folder / "images", {"bench": "images"}, write)
    feed = open_feed(made.folder, folder / "cache", 1)
    threads, processes = [], []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_decode, encoded[:BATCH])
        for _ in range(ROUNDS):
            threads.append(rate(fed(feed), BATCH))
            began_s = time.perf_counter()
            done = sum(1 for _ in pool.imap(_decode, encoded, chunksize=BATCH))
            processes.append(done / (time.perf_counter() - began_s))
    spread = f"{min(threads):.3g} to {max(threads):.3g}"
    mine, theirs = statistics.median(threads), statistics.median(processes)
    return [Row("feed: JPEG 224 x 224, two threads", mine, "samples/s", spread, theirs, "two processes", None, True)]


def _decode(data: bytes) -> np.ndarray:
    return decoded(data, (224, 224))


def streamed(folder: Path) -> list[Row]:
    """64 MB in 16 shards from S3 on this machine, one epoch with a cold cache and one with a warm one."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers.testbed.s3 import s3

    samples = 64_000_000 // (2 * (SEQUENCE + 1))

    def write(into: Path) -> Manifest:
        dtype = [["tokens", "<u2", [SEQUENCE + 1]]]
        writer = ShardWriter(into, np.dtype([("tokens", "<u2", (SEQUENCE + 1,))]), 4 << 20)
        for chunk in tokens(samples):
            writer.add("train", chunk.view([("tokens", "<u2", (SEQUENCE + 1,))]).reshape(-1))
        return Manifest("tokens", dtype, writer.end(SPLITS), {"sequence": SEQUENCE}, window=4)

    made = derive(folder / "streamed", {"bench": "streamed"}, write)
    found: dict[str, list[float]] = {"cold": [], "warm": []}
    with s3() as server:
        os.environ |= {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        away = put_into(made, open_store("s3://bench/corpus"), folder / "away")
        for _ in range(3):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            for state in found:
                feed = open_feed(away.folder, folder / "cache", 1 << 30)
                began_s = time.perf_counter()
                count = sum(BATCH for _ in feed.batches("train", batch_size=BATCH, rank=0, world_size=1, epoch=0, seed=0))
                found[state].append(count / (time.perf_counter() - began_s))
                feed.close()
    return [
        Row(
            f"feed: S3 through the node's cache, {state}", statistics.median(values), "samples/s", f"{min(values):.3g} to {max(values):.3g}"
        )
        for state, values in found.items()
    ]


if __name__ == "__main__":
    print(json.dumps([row.__dict__ for row in rows()], indent=1))
