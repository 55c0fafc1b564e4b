"""The training-set step of samples that are no columns: text packed into token sequences, images.

Does not know: how they are made (`data.token_set`, `data.image_set`).
"""

from __future__ import annotations

from bedplate.core.atomic import confined
from bedplate.core.attempt import Attempt
from bedplate.core.loading import Entry, load
from bedplate.core.spec import Dataset, ImageInputs, Split, TextInputs
from bedplate.data.cut import read_cut
from bedplate.data.feed.derived import Derived, publish
from bedplate.data.feed.store import open_store
from bedplate.data.feed.table import SPLITS
from bedplate.flow.lakes import lake_of
from bedplate.flow.steps.context import StepContext

BUILDERS = {
    "text": Entry("bedplate.data.token_set:build", "packed tokens", extra="text"),
    "images": Entry("bedplate.data.image_set:build", "encoded images"),
}
STREAM_WINDOW = 32  # shards of 64 MiB: who streams shuffles 2 GiB at a time unless told otherwise


def work(attempt: Attempt) -> int:
    """Derive the set unless it is there, put it into its store if it has one, and report it. Returns 0."""
    step = StepContext(attempt)
    values = attempt.spec["inputs"]
    inputs: TextInputs | ImageInputs = (TextInputs if "text" in values else ImageInputs).model_validate(values)
    if inputs.store is not None and inputs.window is None:
        inputs = inputs.model_copy(update={"window": STREAM_WINDOW})
    made = _derived(step, inputs)
    if inputs.store is not None:
        store = inputs.store if "://" in inputs.store else str(step.root / inputs.store)
        made = publish(made, open_store(store), attempt.out / "training_set")
    splits = {split: sum(shard.rows for shard in made.manifest.shards(split)) for split in SPLITS}
    rows = sum(splits.values())
    step.output(attempt.step, "training_set", made.digest, made.folder, rows=rows, splits=splits, samples=made.manifest.kind)
    return 0


def _derived(step: StepContext, inputs: TextInputs | ImageInputs) -> Derived:
    attempt = step.attempt
    name = inputs.dataset
    dataset, split = Dataset.model_validate(attempt.spec["datasets"][name]), Split.model_validate(attempt.spec["split"])
    version = step.version(name)
    table = read_cut(lake_of(step), name, version.meta["table_version"], dataset)
    if isinstance(inputs, ImageInputs):
        kind, beside, unit = "images", step.root, "images"
    else:
        kind, beside, unit = "text", confined(step.root, attempt.spec["tokenizer"]), "documents"
    build = load(BUILDERS, kind, "kind of inputs")
    made: Derived = build(inputs, split, table, dataset, {name: version.digest}, beside, step.state / "derived", step.progress(unit))
    return made
