"""Image sets: files and data URLs, labels that are classes or numbers, and errors that name the row."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset, ImageInputs, Split
from bedplate.data.feed.images import decoded
from bedplate.data.feed.records import MappedShards
from bedplate.data.feed.samples import SampleFeed, open_feed
from bedplate.data.image_set import build
from data.documents import image, table

KINDS = ["cat", "dog", None, "cat"]
ALL_TRAIN = Split(valid=0, test=0)


def photos(folder: Path, count: int = 8) -> list[str]:
    """Image files of different grays below the project."""
    (folder / "photos").mkdir(exist_ok=True)
    names = [f"photos/{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(image(20 * number + 10))
    return names


def fed(folder: Path, split: Split = ALL_TRAIN, dataset: Dataset | None = None, **columns: Any) -> SampleFeed:
    label = next((name for name in columns if name != "path"), None)
    declared = {"images": "photos.path", "size": [16, 20]} | ({"label": f"photos.{label}"} if label else {})
    inputs = ImageInputs.model_validate(declared)
    given = dataset or Dataset(source="photos.csv")
    made = build(inputs, split, table(**columns), given, {"photos": "v1"}, folder, folder / "derived", lambda *_: None)
    feed = open_feed(made.folder, folder, 1)
    assert isinstance(feed, SampleFeed)
    return feed


def test_images_are_decoded_and_resized_and_labels_are_classes(tmp_path: Path) -> None:
    names = photos(tmp_path)
    feed = fed(tmp_path, path=names, kind=KINDS * 2)
    columns = feed.columns("train")
    assert (columns["images"].dtype, columns["images"].shape) == (np.uint8, (6, 3, 16, 20))
    kept = [number for number in range(8) if number % 4 != 2]
    assert all((got == decoded(image(20 * number + 10), (16, 20))).all() for got, number in zip(columns["images"], kept, strict=True))
    assert columns["kind"].tolist() == [0, 1, 0, 0, 1, 0]
    assert feed.dictionary("kind") == ["cat", "dog"]


def test_a_float_is_a_number_and_without_a_label_there_are_images_only(tmp_path: Path) -> None:
    names = photos(tmp_path)
    columns = fed(tmp_path, path=names, age=[0.5, None, *range(6)]).columns("train")
    assert (columns["age"].dtype, columns["age"].tolist()) == (np.float32, [0.5, 0, 1, 2, 3, 4, 5])
    feed = fed(tmp_path, path=names)
    assert set(feed.columns("train")) == {"images"}
    with pytest.raises(DataError, match="no such categorical column"):
        feed.dictionary("kind")


def test_an_image_in_the_column_itself(tmp_path: Path) -> None:
    urls = ["data:image/png;base64," + base64.b64encode(image(n)).decode() for n in (50, 200)]
    columns = fed(tmp_path, path=urls, rank=[3, 7]).columns("train")
    assert (columns["images"][1] == decoded(image(200), (16, 20))).all()
    assert columns["rank"].tolist() == [0, 1]


def test_batches_of_workers_come_in_the_order_of_the_seed(tmp_path: Path) -> None:
    feed = fed(tmp_path, path=photos(tmp_path, 40), number=[float(n) for n in range(40)])
    seen = [batch.columns["number"].tolist() for batch in feed.batches("train", batch_size=4, rank=0, world_size=1, epoch=0, seed=3)]
    again = [
        [*first.columns["number"].tolist(), *second.columns["number"].tolist()]
        for first, second in zip(
            *(feed.batches("train", batch_size=4, rank=rank, world_size=2, epoch=0, seed=3) for rank in range(2)), strict=True
        )
    ]
    assert seen == again
    assert sorted(number for batch in seen for number in batch) == list(range(40))


def test_the_loop_can_decode_itself_and_gets_the_same(tmp_path: Path) -> None:
    ahead = fed(tmp_path, path=photos(tmp_path, 20), number=[float(n) for n in range(20)])
    (folder,) = (path for path in (tmp_path / "derived").iterdir() if path.is_dir())
    alone = SampleFeed(folder, ahead._manifest, MappedShards(folder, ahead._manifest.record), workers=0)
    options = {"batch_size": 4, "rank": 0, "world_size": 1, "epoch": 2, "seed": 1}
    for one, other in zip(ahead.batches("train", **options), alone.batches("train", **options), strict=True):
        assert (one.columns["images"] == other.columns["images"]).all()
        assert one.columns["number"].tolist() == other.columns["number"].tolist()


def test_equal_images_are_in_one_split_and_time_decides_where_there_is_one(tmp_path: Path) -> None:
    names = photos(tmp_path, 60)
    feed = fed(tmp_path, Split(valid=0.2, test=0.3), path=names)
    assert feed.rows("train") + feed.rows("valid") + feed.rows("test") == 60
    assert feed.rows("test") > 5
    timed = fed(tmp_path, Split(valid=0.1, test=0.2), Dataset(source="photos.csv", known_at="at"), path=names)
    assert [timed.rows(split) for split in ("train", "valid", "test")] == [42, 6, 12]


def test_a_broken_image_reaches_the_loop_with_its_row(tmp_path: Path) -> None:
    names = photos(tmp_path)
    (tmp_path / names[5]).write_bytes(image(10)[:60])
    feed = fed(tmp_path, path=names)
    with pytest.raises(DataError, match=r"row 5 of partition 0 of photos is no image that can be decoded.*mend or remove that row"):
        list(feed.batches("train", batch_size=2, rank=0, world_size=1, epoch=0, seed=0))


@pytest.mark.parametrize("name", ["photos/none.png", "../outside.png", "data:image/png;base64,!!"])
def test_an_image_that_cannot_be_read_names_its_row(tmp_path: Path, name: str) -> None:
    (tmp_path.parent / "outside.png").write_bytes(image(1))
    with pytest.raises(DataError, match="row 8 of partition 0 of photos: its image cannot be read"):
        fed(tmp_path, path=[*photos(tmp_path), name])


def test_a_set_without_training_images_and_a_column_of_another_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image is left to train on"):
        fed(tmp_path, path=photos(tmp_path), age=[float("nan")] * 8)
    with pytest.raises(DataError, match=r"images must be named by text \(got 'photos.path is int64'\)"):
        fed(tmp_path, path=[1, 2])


def test_the_same_images_are_derived_once(tmp_path: Path) -> None:
    names = photos(tmp_path)
    inputs = ImageInputs(images="photos.path", size=(8, 8))
    made = [
        build(inputs, ALL_TRAIN, table(path=names), Dataset(source="p.csv"), {"photos": "v1"}, tmp_path, tmp_path, lambda *_: None).made
        for _ in range(2)
    ]
    assert made == [True, False]
