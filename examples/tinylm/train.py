"""A small decoder of Python source: trained under whatever mesh the job has, graded by its loss, asked to go on with a prompt."""

import math
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from bedplate.train.decoder import Decoder, DecoderConfig


def build(vocabulary: int, sequence: int, params: Any) -> Decoder:
    """The decoder of a version or of a run; the same sizes are in bedplate.yaml under `architecture`, for the planner."""
    return Decoder(
        DecoderConfig(
            vocabulary=-(-vocabulary // 64) * 64,  # a multiple that any number of tensor ranks divides
            width=int(params["width"]),
            layers=int(params["layers"]),
            heads=int(params["heads"]),
            key_value_heads=int(params["key_value_heads"]),
            hidden=int(params["hidden"]),
            length=sequence,
        )
    )


def loss_fn(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of the next token, in nats."""
    tokens = batch["tokens"]
    logits = model(tokens[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def train(run: Any, lr: float = 1e-3, epochs: int = 1, batch_size: int = 32, **sizes: int) -> Any:
    """Plain PyTorch; the run cuts the model, deals out samples, restores, checkpoints and stops on notice."""
    signature = run.signature
    model = run.parallelize(lambda: build(signature.vocabulary, signature.sequence, sizes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1, betas=(0.9, 0.95))
    for batch in run.batches("train", epochs=epochs, state=[model, optimizer], batch_size=batch_size):
        loss = run.backward(loss_fn, batch)
        run.update(optimizer, clip=1.0)
        run.log(loss=loss)
    return run.save(model)


def decoder_of(version: Any) -> Decoder:
    """The trained decoder of a version."""
    signature = version.signature
    decoder: Decoder = version.module(lambda: build(signature.vocabulary, signature.sequence, version.params))
    return decoder


def evaluate(version: Any, feed: Any) -> dict[str, float]:
    """Loss in nats a token on the test documents, beside that of one who knows how often each token comes but not the text."""
    decoder = decoder_of(version)
    total = unigram = count = 0.0
    vocabulary = version.signature.vocabulary
    known = torch.ones(vocabulary, dtype=torch.float64)
    for batch in version.batches(feed, "train", batch_size=256):
        known += torch.bincount(batch["tokens"].flatten(), minlength=vocabulary)
    surprise = -(known / known.sum()).log()
    with torch.inference_mode():
        for batch in version.batches(feed, "test", batch_size=32):
            targets = batch["tokens"][:, 1:]
            total += float(loss_fn(decoder, batch)) * targets.numel()
            unigram += float(surprise[targets].sum())
            count += targets.numel()
    return {"loss": total / count, "perplexity": math.exp(total / count), "unigram_loss": unigram / count}


def predict(version: Any, rows: list[dict[str, Any]]) -> list[str]:
    """What follows each row's `prompt`: at most `max_tokens` tokens (32), the likeliest ones."""
    decoder, tokenizer = decoder_of(version), Tokenizer.from_str(version.preprocessing.tokenizer)
    answers = []
    for row in rows:
        prompt = tokenizer.encode(row["prompt"]).ids[-(version.signature.sequence // 2) :]
        made = decoder.generate(prompt, int(row.get("max_tokens") or 32), end=version.signature.end)
        answers.append(str(tokenizer.decode(made)))
    return answers
