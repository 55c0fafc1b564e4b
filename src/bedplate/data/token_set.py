"""Token sets: the documents of a table, tokenized and packed one after another into samples of one length, without padding.

A document goes to a split whole. Where the dataset says when its rows were known, splits follow time; else a seeded hash of the document's
text decides, so equal documents are in one split. Within a split documents come in an order that the seed gives, each with the end token
behind it (one that a document quotes is text). Samples are cut out every `sequence` tokens and have one token more, the first of the
next; what is left at the end is left out.
Does not know: the order in which samples are fed (`data.feed`), or how a tokenizer was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from bedplate.core.atomic import write_bytes
from bedplate.core.digest import digest_file
from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset, Split, TextInputs
from bedplate.data.feed.derived import SHARD_BYTES, Derived, ShardWriter, derive
from bedplate.data.feed.order import Permutation
from bedplate.data.feed.records import Manifest
from bedplate.data.feed.samples import TOKENIZER
from bedplate.data.feed.table import SPLITS
from bedplate.data.hash_split import hashed_split
from bedplate.data.keys import KNOWN_AT, column, microseconds
from bedplate.data.training_set import time_split

FORMAT = 1
USUAL_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|eos|>", "</s>", "<eos>", "[SEP]")
_DOCUMENTS = 128


def build(
    inputs: TextInputs,
    split: Split,
    table: pa.Table,
    dataset: Dataset,
    versions: Mapping[str, str],
    tokenizer: Path,
    root: Path,
    progress: Callable[[int, int], None],
) -> Derived:
    """The token set of a table's text column, below `root`; made unless it is there. `versions` names the content of the table.

    `progress` is told (documents, documents). Raises DataError for a column that is no text, a tokenizer that cannot be read or has no
    end token, and for text that is too short for one sample.
    """
    name = inputs.text.partition(".")[2]
    texts = column(table, name, inputs.dataset)
    if not pa.types.is_string(texts.type):
        raise DataError("documents must be text", value=f"{inputs.text} is {texts.type}", fix="name a column of type string")
    content = inputs.model_dump(mode="json", include={"text", "sequence", "end", "seed"})
    key = {
        "format": FORMAT,
        "versions": dict(versions),
        "inputs": content,
        "split": split.model_dump(mode="json"),
        "tokenizer": digest_file(tokenizer),
        "tokenizers": version("tokenizers"),
        "window": inputs.window,
    }

    def write(folder: Path) -> Manifest:
        """Into an empty folder."""
        codes = document_splits(texts, table, dataset, split, inputs)
        write_bytes(folder / TOKENIZER, tokenizer.read_bytes())
        return _written(folder, inputs, texts, codes, _opened(tokenizer), progress)

    return derive(root, key, write)


def document_splits(texts: pa.Array[Any], table: pa.Table, dataset: Dataset, split: Split, inputs: Any) -> npt.NDArray[np.int8]:
    """The split of each document (an index into SPLITS), -1 for one that is null. `inputs` has the seed and the dataset's name."""
    there = np.asarray(texts.is_valid().to_numpy(zero_copy_only=False))
    if dataset.known_at is not None:
        at_us, has_time = microseconds(column(table, KNOWN_AT, inputs.dataset), f"{inputs.dataset}.{KNOWN_AT}")
        return time_split(at_us, has_time & there, split)[0]
    codes = np.full(len(texts), -1, np.int8)
    for place in np.flatnonzero(there).tolist():
        codes[place] = hashed_split(str(texts[place]).encode(), split, inputs.seed)
    return codes


def _opened(path: Path) -> Tokenizer:
    try:
        opened = Tokenizer.from_file(str(path))
        opened.encode_special_tokens = True  # a document that quotes the end token does not end there
        return opened
    except Exception as error:  # the library raises bare Exception for any file that it cannot read
        fix = "save it with `tokenizer.save(path)` of the tokenizers library"
        raise DataError(f"the tokenizer cannot be read: {error}", value=path.name, fix=fix) from error


def _end(tokenizer: Tokenizer, end: str | None) -> int:
    wanted = USUAL_ENDS if end is None else (end,)
    found = [number for number in map(tokenizer.token_to_id, wanted) if number is not None]
    if not found:
        fix = "name the token that ends a document with `end:`, and train the tokenizer with it as a special token"
        raise DataError("the tokenizer has no such end token", value=end or " ".join(USUAL_ENDS), fix=fix)
    return int(found[0])


def _written(
    folder: Path,
    inputs: TextInputs,
    texts: pa.Array[Any],
    codes: npt.NDArray[np.int8],
    tokenizer: Tokenizer,
    progress: Callable[[int, int], None],
) -> Manifest:
    vocabulary, end = tokenizer.get_vocab_size(with_added_tokens=True), _end(tokenizer, inputs.end)
    kind = "<u2" if vocabulary <= 1 << 16 else "<u4"
    dtype = [["tokens", kind, [inputs.sequence + 1]]]
    manifest = Manifest("tokens", dtype, {}, window=inputs.window)
    writer = ShardWriter(folder, manifest.record, SHARD_BYTES)
    documents, tokens, rest = (dict.fromkeys(SPLITS, 0) for _ in range(3))
    done, total = 0, int(np.count_nonzero(codes >= 0))
    for code, split in enumerate(SPLITS):
        left = np.empty(0, kind)
        for ids in _tokenized(tokenizer, texts, np.flatnonzero(codes == code), inputs.seed, end):
            stream = np.concatenate([left, *(np.array(each, kind) for each in ids)])
            samples = max(0, (len(stream) - 1) // inputs.sequence)
            records = np.empty(samples, manifest.record)
            if samples:
                windows = np.lib.stride_tricks.sliding_window_view(stream, inputs.sequence + 1)
                records["tokens"] = windows[:: inputs.sequence][:samples]
            writer.add(split, records)
            left = stream[samples * inputs.sequence :]
            documents[split] += len(ids)
            tokens[split] += sum(map(len, ids))
            done += len(ids)
            progress(done, total)
        rest[split] = len(left)
    shards = writer.end(SPLITS)
    if not shards["train"]:
        fix = "use a smaller `sequence`, or more text"
        raise DataError("the text is too short for one training sample", value=f"{tokens['train']} tokens", fix=fix)
    facts = {
        "sequence": inputs.sequence,
        "vocabulary": vocabulary,
        "end": end,
        "source": inputs.text,
        "documents": documents,
        "tokens": tokens,
        "left_out": rest,
    }
    return Manifest("tokens", dtype, shards, facts, window=inputs.window)


def _tokenized(
    tokenizer: Tokenizer, texts: pa.Array[Any], places: npt.NDArray[np.intp], seed: int, end: int
) -> Iterator[Sequence[list[int]]]:
    """The tokens of documents, some at a time, in the order that the seed gives, each with the end token behind it."""
    order = places[Permutation(len(places), seed).at(np.arange(len(places)))]
    for first in range(0, len(order), _DOCUMENTS):
        chosen = [str(texts[place]) for place in order[first : first + _DOCUMENTS].tolist()]
        yield [[*encoding.ids, end] for encoding in tokenizer.encode_batch_fast(chosen, add_special_tokens=False)]
