"""An MLflow store in a SQLite file, read as it lies: no MLflow is needed, and nothing is written.

Tables as of MLflow 2.0 to 3.17 (mlflow/store/tracking/dbmodels/models.py, mlflow/store/model_registry/dbmodels/models.py); columns that an
older one lacks are taken as empty. Metrics keep MLflow's own form: infinities are +-1.7976931348623157e308, NaN is NaN.
Does not know: artifacts behind a tracking server (`mlflow_rest`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bedplate.core.errors import DataError
from bedplate.models.foreign.places import fetched, listed
from bedplate.models.foreign.records import Artifact, Experiment, Point, Registered, RegisteredVersion, Run

DELETED_STAGE = "Deleted_Internal"


class SqliteStore:
    """A store by its file."""

    def __init__(self, path: Path) -> None:
        """Open it for reading. Raises DataError for a file that is none."""
        self.identity = f"sqlite:///{path}"
        self._base = path.parent
        try:
            if not path.is_file():
                raise sqlite3.OperationalError("there is no such file")
            self._database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
            self._database.row_factory = sqlite3.Row
            tables = {row["name"] for row in self._database.execute("SELECT name FROM sqlite_master")}
        except sqlite3.Error as error:
            raise DataError(f"the store cannot be read: {error}", value=str(path), fix="name the SQLite file of an MLflow store") from error
        if not {"experiments", "runs", "metrics", "params", "tags"} <= tables:
            self.close()
            raise DataError("this file is no MLflow store", value=str(path), fix="name the file of `--backend-store-uri sqlite:///...`")
        self._tables = tables

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def experiments(self) -> list[Experiment]:
        """All experiments, deleted ones too."""
        return [
            Experiment(
                str(row["experiment_id"]),
                row["name"],
                row["artifact_location"] or "",
                row["lifecycle_stage"],
                int(row.get("creation_time") or 0),
                self._pairs("experiment_tags", experiment_id=row["experiment_id"]),
            )
            for row in self._rows("experiments", "experiment_id")
        ]

    def runs(self, experiment: str) -> Iterable[Run]:
        """The runs of an experiment, oldest first."""
        for row in self._rows("runs", "start_time, run_uuid", experiment_id=int(experiment)):
            run = row["run_uuid"]
            yield Run(
                run,
                experiment,
                row.get("name") or "",
                row["user_id"] or "",
                row["status"],
                int(row["start_time"] or 0),
                row["end_time"],
                row["lifecycle_stage"],
                row["artifact_uri"] or "",
                self._pairs("params", run_uuid=run),
                self._pairs("tags", run_uuid=run),
                tuple(self._datasets(run)),
            )

    def points(self, run: str) -> list[Point]:
        """Every metric point of a run, by name, time and step."""
        rows = self._rows("metrics", "key, timestamp, step, value", run_uuid=run)
        return [Point(row["key"], float("nan") if row["is_nan"] else row["value"], row["timestamp"], row["step"]) for row in rows]

    def artifacts(self, run: Run) -> list[Artifact]:
        """The files of a run, where they lie. Raises DataError when that place cannot be read from here."""
        return listed(run.artifact_uri, self._base)

    def fetch(self, run: Run, name: str, target: Path) -> None:
        """Write one file of a run to `target`."""
        fetched(run.artifact_uri, self._base, name, target)

    def registered(self) -> list[Registered]:
        """The registered models."""
        if "registered_models" not in self._tables:
            return []
        return [
            Registered(
                row["name"],
                int(row["creation_time"] or 0),
                row["description"] or "",
                self._pairs("registered_model_tags", name=row["name"]),
                {each["alias"]: int(each["version"]) for each in self._rows("registered_model_aliases", "alias", name=row["name"])},
            )
            for row in self._rows("registered_models", "name")
        ]

    def versions(self, model: str) -> list[RegisteredVersion]:
        """The versions of a registered model that were not deleted, by number."""
        rows = self._rows("model_versions", "version", name=model)
        return [self._version(row) for row in rows if row["current_stage"] != DELETED_STAGE]

    def fetch_version(self, version: RegisteredVersion, folder: Path) -> list[str]:
        """Write the files of a version below `folder`. Raises DataError when they cannot be read from here."""
        place = self._place(version)
        names = [artifact.name for artifact in listed(place, self._base)]
        for name in names:
            fetched(place, self._base, name, folder / name)
        return names

    def _version(self, row: Mapping[str, Any]) -> RegisteredVersion:
        tags = self._pairs("model_version_tags", name=row["name"], version=row["version"])
        return RegisteredVersion(
            row["name"],
            int(row["version"]),
            int(row["creation_time"] or 0),
            row["description"] or "",
            row["source"] or "",
            row["run_id"] or "",
            row.get("run_link") or "",
            row["current_stage"] or "None",
            row["status"] or "READY",
            row["user_id"] or "",
            tags,
        )

    def _place(self, version: RegisteredVersion) -> str:
        """Where a version's files lie: MLflow 3 names a logged model, or the artifacts of a run, by a URI of its own."""
        [row] = self._rows("model_versions", "version", name=version.model, version=version.number)
        place = str(row.get("storage_location") or row["source"])
        scheme, _, rest = place.partition(":/")
        if scheme == "runs":
            run, _, below = rest.strip("/").partition("/")
            owners = self._rows("runs", "run_uuid", run_uuid=run)
            if not owners:
                fix = "leave this version out, or restore the run"
                raise DataError("the run that holds a version's files is not in the store", value=place, fix=fix)
            return f"{owners[0]['artifact_uri']}/{below}"
        if scheme == "models":
            found = self._rows("logged_models", "model_id", model_id=rest.strip("/"))
            return str(found[0]["artifact_location"]) if found else place
        return place

    def _datasets(self, run: str) -> Iterable[dict[str, Any]]:
        if "inputs" not in self._tables:
            return
        for given in self._rows("inputs", "input_uuid", destination_type="RUN", destination_id=run, source_type="DATASET"):
            for row in self._rows("datasets", "dataset_uuid", dataset_uuid=given["source_id"]):
                names = {
                    "source_type": "dataset_source_type",
                    "source": "dataset_source",
                    "schema": "dataset_schema",
                    "profile": "dataset_profile",
                }
                facts = {name: row[column] for name, column in names.items() if row[column] is not None}
                tags = {tag["name"]: tag["value"] for tag in self._rows("input_tags", "name", input_uuid=given["input_uuid"])}
                yield {"dataset": {"name": row["name"], "digest": row["digest"], **facts}, "tags": tags}

    def _pairs(self, table: str, **where: Any) -> dict[str, str]:
        return {row["key"]: row["value"] if row["value"] is not None else "" for row in self._rows(table, "key", **where)}

    def _rows(self, table: str, order: str, **where: Any) -> list[dict[str, Any]]:
        if table not in self._tables:
            return []
        condition = " AND ".join(f"{column} = ?" for column in where) or "1"
        query = f"SELECT * FROM {table} WHERE {condition} ORDER BY {order}"  # noqa: S608 - names of tables and columns are this module's own
        return [dict(row) for row in self._database.execute(query, tuple(where.values()))]
