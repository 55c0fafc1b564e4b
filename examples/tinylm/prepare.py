"""Real text that every machine has: the source of Python's standard library, and a tokenizer trained on it."""

import sysconfig
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
END = "<|end|>"


def prepare(run: Any, files: int = 2000, vocabulary: int = 4096) -> None:
    """Write `data/corpus.parquet` (path, text), sorted by path, and `data/tokenizer.json`: byte pairs, `vocabulary` tokens at most."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in root.rglob("*.py") if not LEFT_OUT & set(path.relative_to(root).parts))[:files]
    documents = []
    for path in paths:
        try:
            documents.append((path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            print(f"{path.name} is not UTF-8 and is left out")
    corpus = pa.table({"path": [name for name, _ in documents], "text": [text for _, text in documents]})
    data = run.root / "data"
    data.mkdir(exist_ok=True)
    pq.write_table(corpus, data / "corpus.parquet")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((text for _, text in documents), trainer)
    tokenizer.save(str(data / "tokenizer.json"))
    run.log(documents=len(documents), characters=sum(len(text) for _, text in documents), tokens=tokenizer.get_vocab_size())
