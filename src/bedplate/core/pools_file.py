"""`pools.yaml` as frozen models: where steps may run, what each place has, costs and emits, and whose law it is under.

Errors name file, line, field, value and fix, as those of the project file do.
Does not know: what a machine really has (`hardware`), whether an engine exists, or which pool is best (`cluster.offers`).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from bedplate.core import source as yaml_source
from bedplate.core.errors import SpecError, nearest
from bedplate.core.money import micros
from bedplate.core.pool import Home, Offer
from bedplate.core.source import FieldPath, Source
from bedplate.core.spec import Name

HOURS_OF_YEAR = 8766  # 365.25 days
GB = 10**9
Engine = Literal["local", "sim", "ssh", "slurm", "kubernetes", "ray", "sky"]
_PLAIN = {"hosts": re.compile(r"[A-Za-z0-9][\w.@:-]*"), "options": re.compile(r"--[a-z][\w-]*(=[^\s]+)?")}  # none is an option of ssh
PLACE_OF = {"ssh": "hosts", "slurm": "partition", "kubernetes": "context", "ray": "address", "sky": "region"}


class PoolPart(BaseModel):
    """The base of all that `pools.yaml` declares: unknown fields are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Price(PoolPart):
    """What a machine costs for an hour, on demand and as spot, with where the figures come from and of which day they are.

    `spot_stays` and `spot_away` are the mean hours for which spot is there and away.
    """

    on_demand: float | None = Field(default=None, ge=0)
    spot: float | None = Field(default=None, ge=0)
    spot_stays: float = Field(default=1.0, gt=0)
    spot_away: float = Field(default=1.0, gt=0)
    source: str = Field(min_length=1)
    at: date

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.on_demand is None and self.spot is None:
            raise ValueError("give `on_demand`, `spot`, or both")
        return self


class Owned(PoolPart):
    """Hardware of one's own: what a machine cost, over how many years it is written off, its watts, and the price of a kWh."""

    capital: float = Field(ge=0)
    years: float = Field(gt=0)
    kwh_price: float = Field(ge=0)
    source: str = Field(min_length=1)
    at: date


class Capacity(PoolPart):
    """How many machines, and what each has. `quota` is how many may be held at a time, where that is less."""

    machines: int = Field(default=1, ge=1)
    quota: int | None = Field(default=None, ge=0)
    cores: float = Field(default=1, gt=0)
    memory_gb: float = Field(default=1, gt=0)
    accelerators: int = Field(default=0, ge=0)
    accelerator: str = ""


class DeclaredHome(PoolPart):
    """Whose law a place is under: jurisdiction, operator, and the operator's home country. What is left out is unknown."""

    jurisdiction: str = ""
    operator: str = ""
    operator_home: str = ""

    @property
    def home(self) -> Home:
        """The same, as placement has it."""
        return Home(self.jurisdiction, self.operator, self.operator_home)


class DeclaredPool(DeclaredHome):
    """One place to run. `carbon` are grams of CO2 for a kWh, or a CSV of 24 hours (UTC) in the column `g_kwh`.

    `storage` names the store that lies beside it; `egress_gb` is what a GB costs that leaves the place; `watts` are of one machine at
    work, `pue` is the whole site's power over the machines'.

    `python` is the interpreter there, `folder` where runs lie there (from the login folder on), `shared` says that the project's state
    and folder have the same paths there; `ssh_config` is a file as ssh(1) reads with -F, `options` are further ones of sbatch(1).
    `claim` is the persistent volume claim whose volume holds the project and its state, `mount` where it is mounted, there as here;
    `queue` is Kueue's, `device` what the cluster calls an accelerator.
    """

    engine: Engine
    hosts: tuple[str, ...] = ()
    partition: str = ""
    context: str = ""
    namespace: str = ""
    address: str = ""
    region: str = ""
    capacity: Capacity | None = None
    price: Price | None = None
    own: Owned | None = None
    watts: float = Field(default=0.0, ge=0)
    carbon: float | str | None = None
    pue: float = Field(default=1.0, ge=1, le=5)
    cooling: str = ""
    storage: str = ""
    egress_gb: float = Field(default=0.0, ge=0)
    queue_s: float = Field(default=0.0, ge=0)
    fabric: str = ""
    image: str = ""
    python: str = ""
    folder: str = ".bedplate-pool"
    shared: bool = False
    ssh_config: str = ""
    claim: str = ""
    mount: str = ""
    queue: str = ""
    device: str = "nvidia.com/gpu"
    options: tuple[str, ...] = ()

    @field_validator("hosts", "options")
    @classmethod
    def _plain(cls, values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for value in values:
            if not _PLAIN[str(info.field_name)].fullmatch(value):
                raise ValueError(f"not one of `{info.field_name}`: {value!r}")
        return values

    @field_validator("carbon")
    @classmethod
    def _grams(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, float | int) and value < 0:
            raise ValueError("grams of CO2 for a kWh are not negative")
        return value

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        wanted = PLACE_OF.get(self.engine)
        if wanted and not getattr(self, wanted):
            raise ValueError(f"engine {self.engine} needs `{wanted}`")
        if self.engine not in ("local", "sim") and self.capacity is None:
            raise ValueError("give `capacity`: how many machines, and what each has")
        if self.price and self.own:
            raise ValueError("give `price` (rented) or `own` (bought), not both")
        return self


class PoolsFile(PoolPart):
    """All of `pools.yaml`: places by name, stores by the prefix of their URL, one currency, and where prices are refreshed from.

    `shared` is what a month costs that belongs to no run: storage, network, a server.
    """

    pools: dict[Name, DeclaredPool] = Field(default_factory=dict)
    stores: dict[str, DeclaredHome] = Field(default_factory=dict)
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    prices_from: str | None = None
    shared: float = Field(default=0.0, ge=0)


def read_pools(path: Path) -> PoolsFile:
    """The file, checked. Raises SpecError with file, line, field, value and fix."""
    source = yaml_source.read(path)
    try:
        declared = PoolsFile.model_validate(source.values)
    except ValidationError as error:
        raise _placed(source, error) from error
    for name, pool in declared.pools.items():
        if isinstance(pool.carbon, str):
            carbon_of(pool, path.parent, source, name)
    return declared


def carbon_of(pool: DeclaredPool, folder: Path, source: Source | None = None, name: str = "") -> tuple[float, ...]:
    """Grams of CO2 for a kWh: none known, one value, or 24 by the hour of the day (UTC). Raises SpecError for a bad file."""
    if pool.carbon is None:
        return ()
    if not isinstance(pool.carbon, str):
        return (float(pool.carbon),)
    place: FieldPath = ("pools", name, "carbon")
    path = (folder / pool.carbon).resolve()
    fix = "write a CSV with the column g_kwh and 24 rows, one for each hour of the day (UTC), beside pools.yaml"
    try:
        if not path.is_relative_to(folder.resolve()):
            raise ValueError("outside the folder")
        with path.open(newline="") as lines:
            hours = tuple(float(row["g_kwh"]) for row in csv.DictReader(lines))
        if len(hours) != 24 or min(hours) < 0:
            raise ValueError(f"{len(hours)} rows")
    except (OSError, ValueError, KeyError) as error:
        what = "the grid's carbon cannot be read"
        if source is None:
            raise SpecError(what, value=pool.carbon, fix=fix) from error
        raise source.error(place, what, value=pool.carbon, fix=fix) from error
    return hours


def offers_of(name: str, pool: DeclaredPool, capacity: Capacity, currency: str, carbon: tuple[float, ...]) -> Iterator[Offer]:
    """The ways to use a pool: on demand, spot, or as one's own. A pool without a price is one's own and costs nothing more."""
    price, own = pool.price, pool.own
    rates: list[tuple[Literal["own", "on_demand", "spot"], int]] = []
    if price is not None:
        rates += [("on_demand", micros(price.on_demand))] if price.on_demand is not None else []
        rates += [("spot", micros(price.spot))] if price.spot is not None else []
    else:
        rates = [("own", own_hour_micros(own, pool.watts, pool.pue) if own else 0)]
    said = price or own
    for terms, hour in rates:
        spot = terms == "spot" and price is not None
        yield Offer(
            pool=name,
            engine=pool.engine,
            terms=terms,
            hour_micros=hour,
            currency=currency,
            machines=capacity.machines if capacity.quota is None else min(capacity.quota, capacity.machines),
            cores=capacity.cores,
            memory_bytes=int(capacity.memory_gb * GB),
            devices=capacity.accelerators,
            device_model=capacity.accelerator,
            home=pool.home,
            carbon_g_kwh=carbon,
            watts=pool.watts,
            pue=pool.pue,
            waits_s=pool.queue_s,
            there_s=price.spot_stays * 3600 if spot and price else 0.0,
            away_s=price.spot_away * 3600 if spot and price else 0.0,
            fabric=pool.fabric,
            image=pool.image,
            source=said.source if said else "",
            priced_at=said.at.isoformat() if said else "",
        )


def own_hour_micros(own: Owned, watts: float, pue: float) -> int:
    """An hour of a machine of one's own: capital over its years, and the power of it and of its cooling."""
    return micros(own.capital / (own.years * HOURS_OF_YEAR) + watts / 1000 * pue * own.kwh_price)


def _placed(source: Source, error: ValidationError) -> SpecError:
    first = error.errors()[0]
    path: FieldPath = tuple(part for part in first["loc"] if part not in ("[key]", "float", "str"))
    value = first.get("input")
    shown = value if isinstance(value, str | int | float | bool) else None
    what, fix = first["msg"].removeprefix("Value error, "), "see docs/reference/pools-file.md"
    if first["type"] == "extra_forbidden":
        what, fix, shown = "unknown field", nearest(str(path[-1]), _fields_at(path[:-1])), str(path[-1])
    elif first["type"] == "missing":
        what, fix, shown = "a required field is missing", f"add `{path[-1]}:`", None
    return source.error(path, what, value=shown, fix=fix)


def _fields_at(path: FieldPath) -> list[str]:
    kinds: dict[str, type[PoolPart]] = {"capacity": Capacity, "price": Price, "own": Owned}
    if len(path) == 2:
        return list((DeclaredPool if path[0] == "pools" else DeclaredHome).model_fields)
    return list(kinds[str(path[-1])].model_fields) if len(path) == 3 else list(PoolsFile.model_fields)
