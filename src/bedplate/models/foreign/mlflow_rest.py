"""An MLflow server, read by its REST API: experiments, runs, every metric point, artifacts that it proxies, and the registry.

The API is https://mlflow.org/docs/latest/api_reference/rest-api.html; any server that speaks it will do. A user and password in the URL
are sent as basic authentication and never recorded.
Does not know: artifacts that the server does not proxy and that lie on its own disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from bedplate.core.atomic import replacing
from bedplate.core.errors import DataError
from bedplate.models.foreign.places import fetched, listed, local_path
from bedplate.models.foreign.records import Artifact, Experiment, Point, Registered, RegisteredVersion, Run

API = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_PAGE = 1000
_TIMEOUT_S = 60.0


class RestStore:
    """A server by its URL."""

    def __init__(self, url: str) -> None:
        """Nothing is asked yet. Raises DataError for what is no URL."""
        parts = urlsplit(url.rstrip("/"))
        if not parts.hostname:
            raise DataError("this is no URL of a server", value=url, fix="write http://HOST:PORT")
        place = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        self.identity = f"{parts.scheme}://{place}{parts.path}"
        user = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self.client = httpx.Client(base_url=self.identity, auth=user, timeout=_TIMEOUT_S, trust_env=not local)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def experiments(self) -> list[Experiment]:
        """All experiments, deleted ones too."""
        found = self._pages("experiments/search", "experiments", {"view_type": "ALL"})
        return [_experiment(each) for each in sorted(found, key=lambda each: int(each["experiment_id"]))]

    def runs(self, experiment: str) -> Iterable[Run]:
        """The runs of an experiment, deleted ones too, oldest first."""
        asked = {"experiment_ids": [experiment], "run_view_type": "ALL", "order_by": ["attributes.start_time ASC"]}
        for each in self._pages("runs/search", "runs", asked):
            yield _run(each)

    def points(self, run: str) -> list[Point]:
        """Every metric point of a run, by name, time and step."""
        found = self.get("runs/get", {"run_id": run})["run"]["data"].get("metrics", [])
        points: list[Point] = []
        for name in sorted(metric["key"] for metric in found):
            for each in self._history(run, name):
                points.append(Point(name, _number(each["value"]), int(each["timestamp"]), int(each.get("step", 0))))
        return sorted(
            points, key=lambda point: (point.name, point.at_ms, point.step, -math.inf if math.isnan(point.value) else point.value)
        )

    def artifacts(self, run: Run) -> list[Artifact]:
        """The files of a run, in all folders."""
        found: list[Artifact] = []
        folders: list[str | None] = [None]
        while folders:
            folder = folders.pop()
            for each in self.get("artifacts/list", {"run_id": run.id, **({"path": folder} if folder else {})}).get("files", []):
                if each.get("is_dir"):
                    folders.append(each["path"])
                else:
                    found.append(Artifact(each["path"], int(each.get("file_size") or 0)))
        return sorted(found)

    def fetch(self, run: Run, name: str, target: Path) -> None:
        """Write one file of a run to `target`: through the server, or from where it lies when that is a place for all."""
        self._fetch(run.artifact_uri, name, target)

    def registered(self) -> list[Registered]:
        """The registered models."""
        return [
            Registered(
                each["name"],
                int(each.get("creation_timestamp", 0)),
                each.get("description", ""),
                _pairs(each.get("tags")),
                {alias["alias"]: int(alias["version"]) for alias in each.get("aliases", [])},
            )
            for each in self._listed("registered-models/search", "registered_models", {})
        ]

    def versions(self, model: str) -> list[RegisteredVersion]:
        """The versions of a registered model, by number."""
        quoted = model.replace("'", "\\'")
        found = self._listed("model-versions/search", "model_versions", {"filter": f"name='{quoted}'"})
        return sorted((_version(each) for each in found), key=lambda version: version.number)

    def fetch_version(self, version: RegisteredVersion, folder: Path) -> list[str]:
        """Write the files of a version below `folder`."""
        asked = {"name": version.model, "version": str(version.number)}
        place = str(self.get("model-versions/get-download-uri", asked)["artifact_uri"])
        names = [artifact.name for artifact in self._listing(place)]
        for name in names:
            self._fetch(place, name, folder / name)
        return names

    def _listing(self, place: str) -> list[Artifact]:
        if not place.startswith("mlflow-artifacts:"):
            return listed(self._shared(place), Path())
        found: list[Artifact] = []
        folders = [proxied(place)]
        top = folders[0]
        while folders:
            folder = folders.pop()
            answer = self.answered(self.client.build_request("GET", PROXY, params={"path": folder}))
            for each in answer.get("files", []):
                path = f"{folder}/{each['path'].rpartition('/')[2]}"
                if each.get("is_dir"):
                    folders.append(path)
                else:
                    found.append(Artifact(path.removeprefix(f"{top}/"), int(each.get("file_size") or 0)))
        return sorted(found)

    def _fetch(self, place: str, name: str, target: Path) -> None:
        if not place.startswith("mlflow-artifacts:"):
            fetched(self._shared(place), Path(), name, target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        path = quote(f"{PROXY}/{proxied(place)}/{name}")
        try:
            with self.client.stream("GET", path) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refused(answer)
                with replacing(target) as file:
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
        except httpx.HTTPError as error:
            raise self._silent(error) from error

    def _shared(self, place: str) -> str:
        """A place that can be read without the server: an object store, or a path of this machine that is there."""
        folder = local_path(place, Path("/"))
        if folder is not None and not folder.exists():
            fix = "start the server with --serve-artifacts, or import where that folder is"
            raise DataError("the server keeps these files where they cannot be read from here", value=place, fix=fix)
        return place

    def _history(self, run: str, name: str) -> Iterator[Mapping[str, Any]]:
        asked = {"run_id": run, "metric_key": name, "max_results": "25000"}
        while True:
            answer = self.get("metrics/get-history", asked)
            yield from answer.get("metrics", [])
            if not answer.get("next_page_token"):
                return
            asked["page_token"] = answer["next_page_token"]

    def _pages(self, route: str, noun: str, asked: Mapping[str, Any]) -> Iterator[Any]:
        token = None
        while True:
            body = {**asked, "max_results": _PAGE, **({"page_token": token} if token else {})}
            answer = self.answered(self.client.build_request("POST", f"{API}/{route}", json=body))
            yield from answer.get(noun, [])
            token = answer.get("next_page_token")
            if not token:
                return

    def _listed(self, route: str, noun: str, asked: Mapping[str, str]) -> Iterator[Any]:
        """As `_pages`, for the registry, whose searches are GET."""
        token = None
        while True:
            answer = self.get(route, {**asked, "max_results": str(_PAGE), **({"page_token": token} if token else {})})
            yield from answer.get(noun, [])
            token = answer.get("next_page_token")
            if not token:
                return

    def get(self, route: str, asked: Mapping[str, str]) -> dict[str, Any]:
        """What a GET route of the API answers. Raises DataError when it refuses."""
        return self.answered(self.client.build_request("GET", f"{API}/{route}", params=dict(asked)))

    def answered(self, request: httpx.Request) -> dict[str, Any]:
        """The JSON object in the answer to a request. Raises DataError when there is none, or an error."""
        answer = self.ask(request)
        try:
            found = answer.json()
        except ValueError:
            found = None  # a page for people, of a proxy or of another server
        if not isinstance(found, dict):
            raise DataError(
                "the server does not speak MLflow's API", value=str(answer.url), fix="check its address, and what lies before it"
            )
        return found

    def ask(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request. Raises DataError when there is none, or an error."""
        try:
            answer = self.client.send(request)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if answer.is_error:
            raise _refused(answer)
        return answer

    def _silent(self, error: httpx.HTTPError) -> DataError:
        return DataError(f"the server does not answer: {error}", value=self.identity, fix="look whether it runs, and its address")


def _refused(answer: httpx.Response) -> DataError:
    return DataError(
        f"the server refused: {answer.status_code} {answer.text[:300]}", value=str(answer.url), fix="check its address and your rights"
    )


def proxied(place: str) -> str:
    """The path below the server's artifacts of an `mlflow-artifacts:` URI, with or without a host."""
    return urlsplit(place).path.strip("/")


def _number(value: Any) -> float:
    """A metric's value: JSON servers write NaN and infinities as text."""
    return float(value)


def _pairs(listed_pairs: Any) -> dict[str, str]:
    return {each["key"]: each.get("value", "") for each in listed_pairs or ()}


def _experiment(each: Mapping[str, Any]) -> Experiment:
    return Experiment(
        str(each["experiment_id"]),
        each["name"],
        each.get("artifact_location", ""),
        each.get("lifecycle_stage", "active"),
        int(each.get("creation_time", 0)),
        _pairs(each.get("tags")),
    )


def _run(each: Mapping[str, Any]) -> Run:
    info, data = each["info"], each.get("data", {})
    datasets = each.get("inputs", {}).get("dataset_inputs", [])
    return Run(
        info["run_id"],
        str(info["experiment_id"]),
        info.get("run_name", ""),
        info.get("user_id", ""),
        info.get("status", "RUNNING"),
        int(info.get("start_time", 0)),
        int(info["end_time"]) if info.get("end_time") else None,
        info.get("lifecycle_stage", "active"),
        info.get("artifact_uri", ""),
        _pairs(data.get("params")),
        _pairs(data.get("tags")),
        tuple({"dataset": dict(given["dataset"]), "tags": _pairs(given.get("tags"))} for given in datasets),
    )


def _version(each: Mapping[str, Any]) -> RegisteredVersion:
    return RegisteredVersion(
        each["name"],
        int(each["version"]),
        int(each.get("creation_timestamp", 0)),
        each.get("description", ""),
        each.get("source", ""),
        each.get("run_id", ""),
        each.get("run_link", ""),
        each.get("current_stage") or "None",
        each.get("status", "READY"),
        each.get("user_id", ""),
        _pairs(each.get("tags")),
    )
