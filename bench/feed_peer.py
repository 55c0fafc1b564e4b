"""A peer of bench/feed.py, run by the interpreter of its own environment: writes the corpus in the peer's form, then answers with rates.

Does not know: bedplate.
"""

import os
import sys
import time
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np

MODULE, FOLDER, SAMPLES, SEQUENCE, BATCH, SECONDS = sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:7])
SAMPLES, WIDTH, BATCH = int(SAMPLES), int(SEQUENCE) + 1, int(BATCH)

# streaming imports torchvision for data sets of images, which are not used here; without a GPU its wheel does not fit torch's
STUBS = {
    "torchvision": {},
    "torchvision.datasets": {"CIFAR10": object, "VisionDataset": object},
    "torchvision.transforms": {},
    "torchvision.transforms.functional": {"to_tensor": None},
}


def flat():
    return np.memmap(FOLDER / "flat.bin", np.uint16, "r").reshape(SAMPLES, WIDTH)


def mosaicml():
    for name, members in STUBS.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members, __spec__=ModuleSpec(name, None))
    from streaming import MDSWriter, StreamingDataset

    place = str(FOLDER / "mds")
    with MDSWriter(out=place, columns={"tokens": f"ndarray:uint16:{WIDTH}"}, size_limit=64 << 20) as writer:
        for row in flat():
            writer.write({"tokens": np.asarray(row)})
    dataset = StreamingDataset(local=place, remote=None, shuffle=True, shuffle_algo="py1e", batch_size=BATCH)
    while True:
        batch = []
        for sample in dataset:
            batch.append(sample["tokens"].astype(np.int64))
            if len(batch) == BATCH:
                yield np.stack(batch)
                batch = []


def webdataset():
    import webdataset as wds

    (FOLDER / "wds").mkdir()
    with wds.ShardWriter(str(FOLDER / "wds" / "%06d.tar"), maxsize=64 << 20, verbose=0) as sink:
        for number, row in enumerate(flat()):
            sink.write({"__key__": f"{number:09d}", "tokens": row.tobytes()})
    shards = sorted(str(path) for path in (FOLDER / "wds").iterdir())
    dataset = wds.WebDataset(shards, shardshuffle=len(shards), seed=0, empty_check=False).shuffle(1000)
    while True:
        batch = []
        for sample in dataset:
            batch.append(np.frombuffer(sample["tokens"], np.uint16).astype(np.int64))
            if len(batch) == BATCH:
                yield np.stack(batch)
                batch = []


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    batches = {"mosaicml": mosaicml, "webdataset": webdataset}[MODULE]()
    next(batches)
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        for limit_s in (SECONDS / 10, SECONDS):
            count, began_s = 0, time.perf_counter()
            for _ in batches:
                count += BATCH
                if time.perf_counter() - began_s >= limit_s:
                    break
        print(count / (time.perf_counter() - began_s), file=answers, flush=True)


main()
