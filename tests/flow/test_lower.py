"""Lowering: which steps a project has, what each needs, and what is in a fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bedplate.core.errors import NotFound, SpecError
from bedplate.core.plan import Step
from bedplate.core.project import validate
from bedplate.core.source import parse
from bedplate.core.spec import ProjectSpec
from bedplate.flow.lower import lower, select
from flow.world import SHOP

FLIGHTS = (Path(__file__).parents[2] / "examples" / "flights" / "bedplate.yaml").read_text()


def flights(**changes: Any) -> ProjectSpec:
    values = yaml.safe_load(FLIGHTS)
    for path, value in changes.items():
        place = values
        *parts, last = path.split("__")
        for part in parts:
            place = place[part]
        place[last] = value
    return validate(parse(yaml.safe_dump(values), "bedplate.yaml"))


def specs(spec: ProjectSpec) -> dict[str, Any]:
    return {step.name: (step.spec, step.needs, step.entries, step.sources) for step in lower(spec)}


def changed(before: ProjectSpec, after: ProjectSpec) -> set[str]:
    old, new = specs(before), specs(after)
    return {name for name in {*old, *new} if old.get(name) != new.get(name)}


def test_every_step_comes_after_what_it_needs() -> None:
    steps = lower(flights())
    seen: set[str] = set()
    for step in steps:
        assert set(step.needs) <= seen, step.name
        seen.add(step.name)
    assert {"replay", "departures", "route_gain", "train_delay.inputs", "train_delay", "delay", "delay-api.features", "delay-api"} <= seen


def test_a_dataset_needs_the_job_that_writes_its_source() -> None:
    steps = {step.name: step for step in lower(flights())}
    assert steps["departures"].needs == ("replay",)
    assert steps["departures"].sources == ()


def test_a_source_that_no_job_writes_is_an_outside_source() -> None:
    steps = {step.name: step for step in lower(flights(jobs__replay__outputs=["log://departures", "log://arrivals"]))}
    assert steps["weather"].needs == ()
    assert steps["weather"].sources == ("data/weather.csv.gz",)


def test_a_window_changes_its_feature_and_what_serves_it_by_declaration() -> None:
    after = flights(features__route_gain__windows=["6h", "24h"])
    declared = {"route_gain", "delay-api.features"}  # the store computes from the definition itself
    assert changed(flights(), after) == declared, "what else depends on it follows by its new version, not by its declaration"


def test_resources_checkpoints_and_limits_are_in_no_fingerprint() -> None:
    after = flights(
        jobs__train_delay__resources={"workers": 4},
        jobs__train_delay__checkpoint="5s",
        jobs__train_delay__max_time="2h",
        jobs__train_delay__max_restarts=9,
    )
    assert changed(flights(), after) == set()


MADE = """
project: shop
datasets:
  sales: {source: sales.csv, columns: {shop: string, amount: float}}
  large: {sql: "SELECT shop, amount FROM sales WHERE amount > 10"}
  sums: {sql: "SELECT shop, sum(amount) AS amount FROM large JOIN sales USING (shop) GROUP BY shop", key: [shop]}
  ranked: {python: "rank.py:rank", reads: [sums]}
"""


def made(text: str = MADE) -> dict[str, Step]:
    return {step.name: step for step in lower(validate(parse(text, "bedplate.yaml")))}


def test_a_made_dataset_needs_what_it_reads_and_says_how_it_is_made() -> None:
    steps = made()
    assert list(steps) == ["sales", "large", "sums", "ranked"]
    assert {name: step.needs for name, step in steps.items()} == {
        "sales": (),
        "large": ("sales",),
        "sums": ("large", "sales"),
        "ranked": ("sums",),
    }
    assert [steps[name].spec["why_full"] for name in ("large", "sums", "ranked")] == ["", "it joins", "a function may read any row"]
    assert (steps["ranked"].entries, steps["sums"].sources) == (("rank.py",), ())


def test_a_query_changes_its_own_step_and_a_derived_column_those_that_read_it() -> None:
    before = made()

    def changed_by(old: str, new: str) -> set[str]:
        after = made(MADE.replace(old, new))
        return {name for name in before if (before[name].spec, before[name].needs) != (after[name].spec, after[name].needs)}

    assert changed_by("amount > 10", "amount > 11") == {"large", "sums"}, "what reads it is told how it is made"
    assert changed_by("amount: float}}", "amount: float}, derive: {cents: amount * 100}}") == {"large", "sums"}
    assert changed_by("key: [shop]}", "key: [shop, amount]}") == {"sums", "ranked"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "FROM sales WHERE",
            "FROM sale WHERE",
            r"datasets.large.sql: .* not declared \(got 'sale'\). Fix: did you mean 'sales'",
        ),
        ("FROM sales WHERE", "FROM large WHERE", r"not declared \(got 'large'\)"),
        ("SELECT shop, amount FROM sales WHERE amount > 10", "SELECT 1 AS one", "it reads no dataset"),
        ("reads: [sums]", "reads: [ranked]", r"datasets.ranked.reads: it reads a dataset that is not declared \(got 'ranked'\)"),
        ("FROM sales WHERE", "FROM ranked WHERE", "jobs or datasets start from one another"),
    ],
)
def test_what_a_made_dataset_cannot_read_is_named(old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        made(MADE.replace(old, new))


def test_a_derived_column_does_not_bring_data_in_again() -> None:
    after = flights(datasets__arrivals__derive={"gain": "arr_delay - dep_delay + 0"})
    assert "arrivals" not in changed(flights(), after)
    assert {"route_gain", "carrier_gain", "tail_gain", "train_delay.inputs"} <= changed(flights(), after)


def test_a_parameter_changes_its_job_only() -> None:
    assert changed(flights(), flights(jobs__train_delay__params={"lr": 0.1})) == {"train_delay"}


def test_select_takes_targets_and_what_they_need_and_nothing_else() -> None:
    names = [step.name for step in select(lower(flights()), ["origin_weather"])]
    assert names == ["replay", "weather", "origin_weather"]


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="train_delay"):
        select(lower(flights()), ["train_dely"])


def test_a_command_names_its_scripts_as_code() -> None:
    steps = {step.name: step for step in lower(flights(jobs__extra={"command": "python replay.py --fast"}))}
    assert steps["extra"].entries == ("replay.py",)


def test_the_model_that_a_job_trains_is_named_by_the_model() -> None:
    steps = {step.name: step for step in lower(flights())}
    assert steps["train_delay"].spec["model"] == "delay"


def samples(tokenizer: str, **inputs: Any) -> dict[str, Step]:
    """The steps of a project with one job on text."""
    declared = {"text": "corpus.text", "tokenizer": tokenizer, "sequence": 8} | inputs
    spec = {
        "project": "lm",
        "datasets": {"corpus": {"source": "text/**/*.py"}, "photos": {"source": "photos.csv"}},
        "jobs": {
            "words": {"function": "t.py:words", "outputs": ["tokenizer.json", "log://told"]},
            "fit": {"function": "t.py:fit", "inputs": declared},
            "see": {"function": "t.py:fit", "inputs": {"images": "photos.path", "size": [8, 8]}},
        },
    }
    return {step.name: step for step in lower(ProjectSpec.model_validate(spec))}


@pytest.mark.parametrize("tokenizer", ["words", "tokenizer.json"])
def test_a_tokenizer_that_a_job_writes_is_an_input(tokenizer: str) -> None:
    step = samples(tokenizer)["fit.inputs"]
    assert (step.needs, step.reads, step.sources) == (("corpus", "words"), ("corpus", "tokenizer.json"), ())
    assert step.spec["tokenizer"] == "tokenizer.json"


def test_a_tokenizer_that_is_there_is_a_source() -> None:
    step = samples("kept/tokenizer.json")["fit.inputs"]
    assert (step.needs, step.reads, step.sources) == (("corpus",), (), ("kept/tokenizer.json",))


def test_images_need_their_dataset_alone_and_a_pattern_is_a_source() -> None:
    steps = samples("words")
    assert (steps["see.inputs"].kind, steps["see.inputs"].needs) == ("training_set", ("photos",))
    assert steps["corpus"].sources == ("text/**/*.py",)
    assert steps["fit"].needs == ("fit.inputs",)


def fitted(**settings: object) -> dict[str, object]:
    job = {"function": "t.py:fit", "inputs": {"spine": "rows", "label": "rows.y"}, "resources": {"workers": 4}, **settings}
    spec = {"project": "p", "datasets": {"rows": {"source": "rows.csv"}}, "jobs": {"fit": job, "plain": {**job, "inputs": None}}}
    steps = {step.name: step for step in lower(ProjectSpec.model_validate(spec))}
    return {name: dict(steps[name].spec) for name in ("fit", "plain")}


def test_numbers_depend_on_the_precision_and_not_on_the_mesh() -> None:
    same = {"mesh": {"tensor": 2}, "accumulate": 4, "activation_checkpointing": True, "compile": True}
    assert fitted(**same) == fitted()
    assert fitted(precision="fp32") == fitted()
    changed = fitted(precision="bf16")
    assert all(changed[name] == {**fitted()[name], "precision": "bf16"} for name in changed)  # type: ignore[dict-item]


def test_a_function_on_demand_is_part_of_what_is_trained_on_and_of_what_answers() -> None:
    speed = {"function": "speed.py:speed", "inputs": ["distance", "route_gain__gain__mean__6h"], "columns": {"kmh": "float"}}
    before = flights()
    names = [*before.jobs["train_delay"].inputs.features, "speed"]
    after = flights(features__speed=speed, jobs__train_delay__inputs__features=names)
    steps = {step.name: step for step in lower(after)}
    assert "speed" not in steps
    assert steps["train_delay.inputs"].entries == ("speed.py",)
    assert "speed.py" in steps["delay-api"].entries
    assert steps["train_delay.inputs"].spec["on_demand"] == steps["delay-api"].spec["on_demand"] == {"speed": speed}
    assert changed(before, after) == {"train_delay.inputs", "delay-api"}


def gate_of(**promote: object) -> Step:
    """The gate of a small project whose `promote` has these fields."""
    model = {"from": "fit", "evaluate": "grade.py:evaluate", "predict": "serve.py:predict", "promote": promote}
    job = {"function": "t.py:fit", "inputs": {"spine": "rows", "label": "rows.y"}}
    spec = {"project": "p", "datasets": {"rows": {"source": "rows.csv"}}, "jobs": {"fit": job}, "models": {"m": model}}
    return next(step for step in lower(ProjectSpec.model_validate(spec)) if step.name == "m")


def test_a_gate_that_times_predictions_depends_on_the_code_that_predicts() -> None:
    plain, timed = gate_of(when=["rmse < 3", "size_bytes < 1e6"]), gate_of(when=["rmse < 3", "latency_p99_s < 1"])
    assert plain.entries == ("grade.py",) and "predict" not in plain.spec
    assert timed.entries == ("grade.py", "serve.py") and timed.spec["predict"] == "serve.py:predict"


def test_approvals_are_part_of_a_gate_only_where_there_are_any() -> None:
    assert "approvals" not in gate_of(when=["rmse < 3"]).spec["promote"], "gates of projects without them stay up to date"
    assert gate_of(when=["rmse < 3"], approvals=2).spec["promote"]["approvals"] == 2
    assert gate_of(when=["rmse < 3"], approvals=["ann", "bob"]).spec["promote"]["approvals"] == ["ann", "bob"]


def lowered(text: str) -> dict[str, Step]:
    return {step.name: step for step in lower(validate(parse(text, "bedplate.yaml")))}


TUNED = """
project: p
models:
  base: {from: "dir://llama", license: mit}
  other: {from: "hf://org/name"}
jobs:
  tune: {function: tune.py:tune, base: base}
  plain: {function: tune.py:tune}
"""


def test_an_imported_model_is_a_step_and_a_job_needs_its_base() -> None:
    steps = lowered(TUNED)
    assert (steps["base"].kind, steps["base"].sources, steps["base"].spec["license"]) == ("model", ("dir://llama",), "mit")
    assert steps["other"].sources == (), "what lies at an address is taken to stay"
    assert (steps["tune"].needs, steps["tune"].spec["base"]) == (("base",), "base")
    assert "base" not in steps["plain"].spec, "a job without one keeps its fingerprint"


def test_a_job_that_starts_from_a_trained_model_comes_after_its_gate() -> None:
    names = list(lowered(SHOP.replace("  other: {", "  tune: {function: tune.py:tune, base: price}\n  other: {")))
    assert names.index("tune") > names.index("price")


def test_jobs_that_start_from_one_another_are_refused() -> None:
    text = SHOP.replace("params: {lr: 0.1}", "params: {lr: 0.1}\n    base: price")
    with pytest.raises(SpecError, match="cannot start from the model that it trains"):
        lowered(text)
    with pytest.raises(SpecError, match=r"no such model \(got 'bose'\)"):
        lowered(TUNED.replace("base: base}", "base: bose}"))
    inputs = "{spine: rows, columns: [shop], label: rows.amount}"
    second = SHOP.replace("  other: {", f"  again: {{function: fit.py:fit, base: price, inputs: {inputs}}}\n  other: {{")
    second = second.replace("models:\n", "models:\n  next: {from: again, evaluate: fit.py:evaluate, predict: fit.py:predict}\n")
    assert list(lowered(second)).index("again") > list(lowered(second)).index("price")
    with pytest.raises(SpecError, match="jobs or datasets start from one another"):
        lowered(second.replace("params: {lr: 0.1}", "params: {lr: 0.1}\n    base: next"))


def test_how_an_endpoint_answers_is_in_its_step_only_where_it_is_declared() -> None:
    plain = {step.name: step for step in lower(flights())}["delay-api"]
    assert "limits" not in plain.spec
    limited = flights(**{"endpoints__delay-api": {"model": "delay@production", "batching": {"size": 8}, "keys": "required"}})
    assert changed(flights(), limited) == {"delay-api"}
    step = {step.name: step for step in lower(limited)}["delay-api"]
    assert step.spec["limits"] == {"batching": {"size": 8}, "keys": "required"}
    assert changed(flights(), flights(**{"endpoints__delay-api": {"model": "delay@production", "deadline": "30s"}})) == set()
    scaled = flights(**{"endpoints__delay-api": {"model": "delay@production", "replicas": 2, "rollout": {"every": "1m"}}})
    assert changed(flights(), scaled) == {"delay-api"}
    scaling = {step.name: step for step in lower(scaled)}["delay-api"].spec["scaling"]
    assert (scaling["replicas"], scaling["rollout"]["every"], "scale" in scaling) == (2, "1m", False)


def test_an_expectation_changes_its_ingestion_alone() -> None:
    expect = [{"rows": {"min": 1}}, {"not_null": "carrier", "otherwise": "quarantine"}]
    assert changed(flights(), flights(datasets__departures__expect=expect)) == {"departures"}
    assert changed(flights(datasets__departures__expect=expect), flights(datasets__departures__expect=expect[:1])) == {"departures"}
