"""An offline store for Feast that retrieves with this project's engine: loaded by Feast, in the environment of Feast.

The engine runs in a process of its own interpreter (`bench.feast_engine`); tables go between them in files.
Does not know: how a point-in-time join is done.
"""

import json
import os
import subprocess
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.infra.offline_stores import offline_utils
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel
from feast.utils import _get_requested_feature_views_to_features_dict

ENGINE, ROOT = os.environ["ENGINE_PYTHON"], Path(__file__).parents[1]


class BedplateOfflineStoreConfig(FeastConfigBaseModel):
    """Which store this is; it needs no settings."""

    type: Literal["feast_store.BedplateOfflineStore"] = "feast_store.BedplateOfflineStore"


class BedplateRetrievalJob(RetrievalJob):
    """A retrieval that is done when its result is asked for."""

    def __init__(self, request, spine, full_feature_names, on_demand, metadata):
        self._request, self._spine = request, spine
        self._full_feature_names, self._on_demand, self._metadata = full_feature_names, on_demand, metadata

    @property
    def full_feature_names(self):
        return self._full_feature_names

    @property
    def on_demand_feature_views(self):
        return self._on_demand

    @property
    def metadata(self):
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._spine.to_parquet(folder / "spine.parquet", index=False)
            request = self._request | {"spine": str(folder / "spine.parquet"), "out": str(folder / "out.arrow")}
            (folder / "request.json").write_text(json.dumps(request))
            command = [ENGINE, "-m", "bench.feast_engine", str(folder / "request.json")]
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=timeout or 600)
            with pa.OSFile(request["out"]) as file:
                return pa.ipc.open_file(file).read_all().replace_schema_metadata(None)

    def _to_df_internal(self, timeout: int | None = None):
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(self, storage, allow_overwrite: bool = False, timeout: int | None = None):  # noqa: ARG002 - Feast's signature
        path = Path(storage.file_options.uri)
        if path.exists() and not allow_overwrite:
            raise FileExistsError(path)
        beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        pq.write_table(self.to_arrow(), beside)
        beside.rename(path)


class BedplateOfflineStore(OfflineStore):
    """Retrieval from Parquet files with this project's engine."""

    @staticmethod
    def get_historical_features(config, feature_views, feature_refs, entity_df, registry, project, full_feature_names=False, **_):
        if not isinstance(entity_df, pd.DataFrame):
            raise NotImplementedError("rows are given as a data frame: there is no SQL here")
        at = offline_utils.infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        spine = entity_df.copy()
        spine[at] = pd.to_datetime(spine[at], utc=True)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        wanted, _computed = _get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        views = [_view(config, view, names, full_feature_names) for view, names in wanted.items()]
        keys = {key for view in views for key in view["keys"].values()}
        offline_utils.assert_expected_columns_in_entity_df(dict(entity_df.dtypes), keys, at)
        given = list(set(entity_df.columns) - {at})
        metadata = RetrievalMetadata(feature_refs, given, spine[at].min(), spine[at].max())
        return BedplateRetrievalJob({"at": at, "views": views}, spine, full_feature_names, on_demand, metadata)

    @staticmethod
    def pull_all_from_table_or_query(
        config,
        data_source,
        join_key_columns,
        feature_name_columns,
        timestamp_field,
        created_timestamp_column=None,  # noqa: ARG004 - Feast's signature
        start_date=None,
        end_date=None,
    ):
        frame = pd.read_parquet(_path(config, data_source))
        times = pd.to_datetime(frame[timestamp_field], utc=True)
        kept = (times >= pd.Timestamp(start_date or "1970-01-01").tz_convert("UTC")) & (times <= pd.Timestamp(end_date).tz_convert("UTC"))
        names = [*join_key_columns, *feature_name_columns, timestamp_field]
        request: dict[str, Any] = {"at": timestamp_field, "views": []}
        return BedplateRetrievalJob(request, frame.loc[kept, list(dict.fromkeys(names))], False, [], None)

    @staticmethod
    def pull_latest_from_table_or_query(*_args, **_kwargs):
        raise NotImplementedError("only historical retrieval is looked at")


def _path(config, source):
    return str(Path(config.repo_path or ".") / source.path)


def _view(config, view, names, full_feature_names):
    """What the engine needs to know of a view: where its rows are, what they are called, and what they are to be called."""
    source, prefix = view.batch_source, view.projection.name_to_use()
    declared = {feature.name for feature in view.features}
    for name in names:
        if name not in declared:
            raise KeyError(f"{view.name} has no feature {name}")
    renamed = view.projection.join_key_map
    return {
        "source": _path(config, source),
        "mapping": dict(source.field_mapping),
        "timestamp": source.timestamp_field,
        "created": source.created_timestamp_column or "",
        "keys": {key.name: renamed.get(key.name, key.name) for key in view.entity_columns if key.name != "__dummy_id"},
        "features": {name: f"{prefix}__{name}" if full_feature_names else name for name in names},
        "ttl_s": view.ttl.total_seconds() if isinstance(view.ttl, timedelta) else 0,
    }
