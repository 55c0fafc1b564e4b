"""What Feast asks of every offline store's historical retrieval, on its own drivers, customers, places and orders; run in its environment.

The cases are those of Feast's universal retrieval tests, which its package does not bring along, written anew against its public
interface; the data comes from the generators that the package has. What is expected is found by looking at every record for every row.
Prints which cases hold, as JSON: `python feast_cases.py STORE`, where STORE is an offline store's type.
"""

import json
import logging
import sys
import tempfile
import traceback
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, RequestSource, ValueType
from feast import driver_test_data as made
from feast.errors import RequestDataNotFoundInEntityDfException
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float32, Float64, Int32, Int64

DAY = timedelta(days=1)
AT = "event_timestamp"
CUSTOMER = ["current_balance", "avg_passenger_count", "lifetime_trip_count"]
PLAIN = [*(f"customer_profile:{name}" for name in CUSTOMER), "order:order_is_success"]
PLAIN += ["global_stats:num_rides", "global_stats:avg_ride_length", "field_mapping:feature_name"]


class World:
    """Data in files, a store without any definition, and the definitions."""

    def __init__(self, folder: Path, kind: str, ttl: timedelta) -> None:
        np.random.seed(0)  # the generators draw from here
        self.folder = folder
        end = datetime.now(UTC).replace(microsecond=0, second=0, minute=0)
        start = end - 7 * DAY
        drivers, customers, places = list(range(5001, 5011)), list(range(1001, 1011)), list(range(1, 51))
        self.frames = {
            "order": made.create_orders_df(customers, drivers, start, end, 40, places),
            "driver_stats": made.create_driver_hourly_stats_df(drivers, start, end),
            "customer_profile": made.create_customer_daily_profile_df(customers, start, end),
            "location": made.create_location_stats_df(places, start, end),
            "global_stats": made.create_global_daily_stats_df(start, end),
            "field_mapping": made.create_field_mapping_df(start, end),
        }
        config = {"type": kind}
        self.store = FeatureStore(
            config=RepoConfig(
                project="cases",
                registry=str(folder / "registry.db"),
                provider="local",
                offline_store=config,
                online_store={"type": "sqlite", "path": str(folder / "online.db")},
                entity_key_serialization_version=3,
            )
        )
        self.entities = {
            key: Entity(name=key.removesuffix("_id"), join_keys=[key], value_type=ValueType.INT64)
            for key in ("driver_id", "customer_id", "location_id")
        }
        self.views = {
            "driver_stats": self.view("driver_stats", ["driver_id"], {"conv_rate": Float32, "avg_daily_trips": Int32}, ttl),
            "customer_profile": self.view(
                "customer_profile", ["customer_id"], dict(zip(CUSTOMER, (Float32, Float32, Int32), strict=True)), ttl
            ),
            "order": self.view("order", ["driver_id", "customer_id"], {"order_is_success": Int32}, ttl),
            "location": self.view("location", ["location_id"], {"temperature": Int32}, ttl),
            "global_stats": self.view("global_stats", [], {"num_rides": Int32, "avg_ride_length": Float32}, ttl),
            "field_mapping": self.view("field_mapping", [], {"feature_name": Int32}, ttl, {"column_name": "feature_name"}),
        }
        self.on_demand = self._on_demand()

    def source(self, name: str, mapping: dict[str, str] | None = None) -> FileSource:
        path = self.folder / f"{name}.parquet"
        frame = self.frames[name].copy()
        for column in (AT, "created"):
            if column in frame:
                frame[column] = pd.to_datetime(frame[column], utc=True)
        frame.drop(columns=["driver_profile"], errors="ignore").to_parquet(path, index=False)
        created = "created" if "created" in frame else ""
        return FileSource(path=str(path), timestamp_field=AT, created_timestamp_column=created, field_mapping=mapping or {})

    def view(self, name: str, keys: list[str], features: dict, ttl: timedelta, mapping: dict[str, str] | None = None) -> FeatureView:
        schema = [Field(name=feature, dtype=kind) for feature, kind in features.items()]
        schema += [Field(name=key, dtype=Int64) for key in keys]
        entities = [self.entities[key] for key in keys]
        return FeatureView(name=name, entities=entities, schema=schema, source=self.source(name, mapping), ttl=ttl)

    def _on_demand(self):
        asked = RequestSource(name="asked", schema=[Field(name="val_to_add", dtype=Int32)])
        names = ("conv_rate_plus_100", "conv_rate_plus_val_to_add")

        @on_demand_feature_view(sources=[self.views["driver_stats"], asked], schema=[Field(name=name, dtype=Float64) for name in names])
        def conv_rate_plus_100(inputs: pd.DataFrame) -> pd.DataFrame:
            plus = {
                "conv_rate_plus_100": inputs["conv_rate"] + 100,
                "conv_rate_plus_val_to_add": inputs["conv_rate"] + inputs["val_to_add"],
            }
            return pd.DataFrame(plus)

        return conv_rate_plus_100

    def apply(self, *more) -> None:
        self.store.apply([*self.entities.values(), *self.views.values(), self.on_demand, *more])

    def rows(self, *without: str) -> pd.DataFrame:
        return self.frames["order"].drop(columns=["order_is_success", *without]).reset_index(drop=True)

    def expected(self, rows: pd.DataFrame, view: str, feature: str, keys: dict[str, str] | None = None) -> list:
        """The value of each row, by looking at every record: {key of the records: that of the rows}."""
        keys = {key: key for key in (entity.name for entity in self.views[view].entity_columns) if key[0] != "_"} if keys is None else keys
        column = {to: of for of, to in self.views[view].batch_source.field_mapping.items()}.get(feature, feature)
        records = self.frames[view].assign(**{AT: pd.to_datetime(self.frames[view][AT], utc=True)}).to_dict("records")
        found, ttl = [], self.views[view].ttl
        for row in rows.assign(**{AT: pd.to_datetime(rows[AT], utc=True)}).to_dict("records"):
            seen = [record for record in records if all(record[key] == row[its] for key, its in keys.items()) and record[AT] <= row[AT]]
            seen = [record for record in seen if not ttl or record[AT] >= row[AT] - ttl]
            found.append(max(seen, key=lambda record: (record[AT], record.get("created", row[AT])))[column] if seen else None)
        return found


def check(found: pd.DataFrame, rows: pd.DataFrame, expected: dict[str, list]) -> None:
    """Whether every row came back with its values, in whatever order: rows are told apart by their time."""
    assert len(found) == len(rows), f"{len(found)} rows of {len(rows)}"
    wanted = rows.assign(**expected)
    assert sorted(found.columns) == sorted(wanted.columns), sorted(set(found.columns) ^ set(wanted.columns))
    one, other = (each.assign(**{AT: pd.to_datetime(each[AT], utc=True)}).sort_values(AT, ignore_index=True) for each in (found, wanted))
    for name in wanted.columns:
        if name == AT:
            assert (one[name] - other[name]).abs().max() < timedelta(milliseconds=1)
            continue
        numbers = [pd.to_numeric(each[name]).to_numpy(float) for each in (one, other)]
        np.testing.assert_allclose(*numbers, rtol=1e-6, err_msg=name)


def plain(world: World, rows: pd.DataFrame, full: bool, refs: list[str]) -> dict[str, list]:
    """What is expected of references to views of records."""
    pairs = [ref.split(":") for ref in refs]
    return {f"{view}__{name}" if full else name: world.expected(rows, view, name) for view, name in pairs}


def main_case(world: World, full: bool) -> None:
    service = FeatureService(name="plus", features=[world.views["driver_stats"][["conv_rate"]], world.on_demand])
    place = world.views["location"]
    ends = ("origin", "destination")
    mapped = FeatureService(name="ends", features=[place.with_name(end).with_join_key_map({"location_id": f"{end}_id"}) for end in ends])
    world.apply(service, mapped)
    rows = world.rows()
    rows["val_to_add"] = range(len(rows))
    drivers = ["driver_stats:conv_rate", "driver_stats:avg_daily_trips"]
    names = ["conv_rate_plus_100", "conv_rate_plus_val_to_add"]
    refs = [*drivers, *PLAIN]
    job = world.store.get_historical_features(rows, [*refs, *(f"conv_rate_plus_100:{name}" for name in names)], full_feature_names=full)
    rate = np.array(world.expected(rows, "driver_stats", "conv_rate"), float)
    plus = {
        f"conv_rate_plus_100__{name}" if full else name: (rate + of).tolist()
        for name, of in zip(names, (100, rows["val_to_add"]), strict=True)
    }
    check(job.to_df(), rows, plain(world, rows, full, refs) | plus)
    check(job.to_arrow().to_pandas(), rows, plain(world, rows, full, refs) | plus)
    found = world.store.get_historical_features(rows, world.store.get_feature_service("plus"), full_feature_names=full).to_df()
    check(found, rows, plain(world, rows, full, drivers) | plus)  # with all that the view on demand is computed from
    found = world.store.get_historical_features(rows, world.store.get_feature_service("ends"), full_feature_names=True).to_df()
    check(
        found, rows, {f"{end}__temperature": world.expected(rows, "location", "temperature", {"location_id": f"{end}_id"}) for end in ends}
    )


def shared_source(world: World, full: bool) -> None:
    source = world.views["driver_stats"].batch_source
    entity = world.entities["driver_id"]
    first = FeatureView(name="v1", entities=[entity], schema=[Field(name="avg_daily_trips", dtype=Int32)], source=source)
    schema = [Field(name="avg_daily_trips", dtype=Int32), Field(name="conv_rate", dtype=Float32)]
    world.apply(first, FeatureView(name="v2", entities=[entity], schema=schema, source=source))
    rows = world.rows()
    try:
        world.store.get_historical_features(rows, ["v1:conv_rate"], full_feature_names=full).to_df()
    except KeyError:
        return
    raise AssertionError("a feature that another view has was found")


def missing_request_data(world: World) -> None:
    world.apply()
    try:
        world.store.get_historical_features(world.rows(), [*PLAIN, "conv_rate_plus_100:conv_rate_plus_val_to_add"], full_feature_names=True)
    except RequestDataNotFoundInEntityDfException:
        return
    raise AssertionError("what the request lacks was not missed")


def persisting(world: World, full: bool) -> None:
    world.apply()
    rows = world.rows("order_id", "origin_id", "destination_id")
    job = world.store.get_historical_features(rows, PLAIN, full_feature_names=full)
    storage = SavedDatasetFileStorage(path=str(world.folder / "saved.parquet"))
    saved = world.store.create_saved_dataset(from_=job, name="saved", storage=storage, allow_overwrite=True)
    check(saved.to_df(), rows, plain(world, rows, full, PLAIN))
    check(job.to_df(), rows, plain(world, rows, full, PLAIN))


def no_ttl(world: World, full: bool) -> None:
    world.apply()
    rows = world.rows("order_id", "origin_id", "destination_id")
    check(world.store.get_historical_features(rows, PLAIN, full_feature_names=full).to_df(), rows, plain(world, rows, full, PLAIN))


def backfills(world: World) -> None:
    now = datetime.now(UTC).replace(microsecond=0, second=0, minute=0)
    records = [(1001, 10, now, now), (1001, 20, now, now + DAY), (1002, 30, now, now + DAY), (1002, 40, now + DAY, now)]
    world.frames["late"] = pd.DataFrame(records, columns=["driver_id", "avg_daily_trips", AT, "created"])
    world.store.apply([world.entities["driver_id"], world.view("late", ["driver_id"], {"avg_daily_trips": Int32}, timedelta(0))])
    rows = pd.DataFrame({"driver_id": [1001, 1002], AT: [now + 2 * DAY, now + 2 * DAY + timedelta(seconds=1)]})
    check(world.store.get_historical_features(rows, ["late:avg_daily_trips"]).to_df(), rows, {"avg_daily_trips": [20, 40]})


def main(kind: str) -> None:
    """Run every case in a world of its own."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    cases = [("backfills", backfills, (), DAY), ("missing request data", missing_request_data, (), DAY)]
    for full in (True, False):
        what = f"full names: {full}"
        cases += [(f"main, {what}", main_case, (full,), DAY), (f"persisting, {what}", persisting, (full,), DAY)]
        cases += [(f"no time to live, {what}", no_ttl, (full,), timedelta(0)), (f"shared source, {what}", shared_source, (full,), DAY)]
    held: dict[str, str] = {}
    for name, case, arguments, ttl in cases:
        with tempfile.TemporaryDirectory() as folder:
            try:
                case(World(Path(folder), kind, ttl), *arguments)
            except Exception:
                held[name] = traceback.format_exc()
            else:
                held[name] = ""
    print(json.dumps(held))


if __name__ == "__main__":
    main(sys.argv[1])
