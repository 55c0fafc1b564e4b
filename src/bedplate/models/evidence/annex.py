"""The outline of the technical documentation that Annex IV of the EU AI Act asks for, filled with what the ledger knows.

The nine sections have the numbers of the Annex (Regulation (EU) 2024/1689, Annex IV) and titles in our words. What a ledger cannot know is
marked for a person to write; nothing is made up.
Does not know: whether a system is high-risk, or what the law asks of it beyond this outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bedplate.core.clock import iso
from bedplate.models.evidence.facts import PERSON, Facts, number, table

Part = tuple[str, str]  # a point of the Annex: what it asks, and what is known


def annex(facts: Facts) -> str:
    """The document, in Markdown: every point of every section is filled or marked."""
    sections = (
        ("1. General description of the system", _general(facts)),
        ("2. Elements of the system and how it was developed", _development(facts)),
        ("3. Monitoring, functioning and control", _control(facts)),
        ("4. Appropriateness of the performance metrics", _metrics(facts)),
        ("5. Risk management", [("Risk management system (Article 9)", "")]),
        ("6. Changes over the lifecycle", _changes(facts)),
        ("7. Harmonised standards applied", [("Standards, or how the requirements are met otherwise", "")]),
        ("8. EU declaration of conformity", [("Copy of the declaration (Article 47)", "")]),
        ("9. Post-market monitoring", _after(facts)),
    )
    order = f"In the order of Annex IV of Regulation (EU) 2024/1689. Digest {facts.version.digest}."
    head = f"# Technical documentation of {facts.version.ref}\n\n{order}"
    return "\n\n".join([head, *(f"## {title}\n\n{_parts(parts)}" for title, parts in sections)]) + "\n"


def _parts(parts: Sequence[Part]) -> str:
    return "\n\n".join(f"### {title}\n\n{text or PERSON}" for title, text in parts)


def _listed(values: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {number(value)}" for name, value in values.items() if value not in (None, "", [], {}))


def _general(facts: Facts) -> list[Part]:
    endpoints = "\n".join(
        f"- {name}: HTTP endpoint of `{endpoint.get('model', '')}`, JSON in and out" for name, endpoint in sorted(facts.endpoints.items())
    )
    made = {
        "version": facts.version.ref,
        "digest": facts.version.digest,
        "made at": iso(facts.version.created_at_s),
        "project": facts.project,
    }
    return [
        ("(a) Intended purpose, provider, version and its relation to earlier ones", f"{_listed(made)}\n\nPurpose and provider: {PERSON}"),
        ("(b) Interaction with other hardware, software and systems", endpoints),
        ("(c) Versions of the software, and what updating asks for", _software(facts)),
        ("(d) Forms in which it is placed on the market", endpoints and f"{endpoints}\n\nOther forms: {PERSON}"),
        ("(e) Hardware it is meant to run on", _hardware(facts) and f"Trained on:\n\n{_hardware(facts)}\n\nMeant to run on: {PERSON}"),
        ("(f) Photographs or illustrations, where it is part of a product", ""),
        ("(g) Description of the user interface", ""),
        ("(h) Instructions for use, for the deployer", ""),
    ]


def _software(facts: Facts) -> str:
    environment = (facts.run.made.get("environment") if facts.run is not None else None) or {}
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(facts.dependencies.items()))
    return _listed({**environment, "libraries": libraries}) + ("\n\nThe whole list is in `bom.cdx.json`." if libraries else "")


def _hardware(facts: Facts) -> str:
    return _listed((facts.run.made.get("hardware") if facts.run is not None else None) or {})


def _development(facts: Facts) -> list[Part]:
    run = facts.run
    spent = [each for each in facts.spent if run is not None and each.run == run.id]
    computed = (
        _listed({"device hours of the training run": spent[0].device_hours, "energy, kWh (estimate)": spent[0].energy_kwh}) if spent else ""
    )
    return [
        ("(a) Methods and steps of development, third-party tools and models", _steps(facts)),
        ("(b) Design specifications: logic, key choices, assumptions, what it optimises for", _design(facts)),
        ("(c) System architecture and computing resources", computed and f"{computed}\n\nArchitecture: {PERSON}"),
        ("(d) Data: how sets were obtained, labelled and cleaned, their scope and characteristics", _data(facts)),
        ("(e) Human oversight measures (Article 14)", ""),
        ("(f) Changes that are determined in advance", ""),
        ("(g) Validation and testing: data, metrics, reports", _testing(facts)),
        ("(h) Cybersecurity measures", _security(facts)),
    ]


def _steps(facts: Facts) -> str:
    rows = [
        (run.id, run.kind, iso(run.created_at_s), ", ".join(run.outputs), ((run.made.get("code") or {}).get("snapshot") or "")[:12])
        for run in facts.runs
    ]
    models = [version.ref for version in facts.versions if version.kind == "model" and version.ref != facts.version.ref]
    based = f"\n\nBuilt on: {', '.join(models)}." if models else ""
    return table(("run", "kind", "began", "made", "code snapshot"), rows) + based if rows else ""


def _design(facts: Facts) -> str:
    if facts.run is None:
        return ""
    features = [name for version in facts.versions for name in version.meta.get("features", ()) if version.kind == "view"]
    known = {**{f"parameter {name}": value for name, value in sorted(facts.run.params.items())}, "features": ", ".join(features)}
    return f"{_listed(known)}\n\nRationale and assumptions: {PERSON}"


def _data(facts: Facts) -> str:
    rows = [
        (
            sheet.version.ref,
            sheet.version.meta.get("rows", ""),
            sheet.source,
            sheet.license or "not declared",
            sheet.residency or "not declared",
        )
        for sheet in facts.sheets
    ]
    splits = [
        _listed({f"rows, {k}": v for k, v in (each.meta.get("splits") or {}).items()})
        for each in facts.versions
        if each.kind == "training_set"
    ]
    if not rows and not any(splits):
        return ""
    sheets = "Each has a data sheet in `data/`, whose collection, labelling and gaps are for a person to write."
    return "\n\n".join(filter(None, [table(("table", "rows", "source", "license", "residency"), rows), *splits, sheets]))


def _testing(facts: Facts) -> str:
    found = facts.evaluation
    if not found:
        return ""
    rows = sorted((found.get("metrics") or {}).items())
    return f"Evaluated by the gate on {found['pinned_set']}, see `evaluation.md`.\n\n{table(('metric', 'value'), rows)}"


def _security(facts: Facts) -> str:
    signed = sum("envelope" in move.decision for _, move in facts.decisions)
    held = (
        "Weights are kept in a format that runs no code, each file with its SHA-256 (`manifest.json`), signed (`model.sig`). "
        "Every event of the development is in a hash chain with signed heads (`chain.jsonl`). "
        f"Decisions that were signed: {signed} of {len(facts.decisions)}."
    )
    return f"{held}\n\nOther measures: {PERSON}"


def _control(facts: Facts) -> list[Part]:
    slices = facts.evaluation.get("slices")
    accuracy = _listed(dict(sorted((facts.evaluation.get("metrics") or {}).items())))
    by_group = "By groups: see `evaluation.md`." if slices else f"For specific persons or groups: {PERSON} (no slices were evaluated)"
    return [
        ("Capabilities and limits, accuracy overall and for specific persons or groups", accuracy and f"{accuracy}\n\n{by_group}"),
        ("Foreseeable unintended outcomes and sources of risk", ""),
        ("Human oversight, and technical measures to interpret the output", ""),
        ("Specifications of input data", _inputs(facts)),
    ]


def _inputs(facts: Facts) -> str:
    fields = facts.signature.get("inputs") or ()
    rows = [
        (each.get("name", ""), each.get("dtype") or each.get("type", ""), each.get("shape", ""))
        for each in fields
        if isinstance(each, dict)
    ]
    return table(("input", "type", "shape"), rows) if rows else ""


def _metrics(facts: Facts) -> list[Part]:
    rules = facts.evaluation.get("rules") or [check.get("text", "") for check in (facts.evaluation.get("decision") or {}).get("checks", ())]
    judged = "\n".join(f"- `{rule}`" for rule in rules)
    return [("Why these metrics fit the system", judged and f"The gate's rules:\n\n{judged}\n\nWhy they fit: {PERSON}")]


def _changes(facts: Facts) -> list[Part]:
    rows = [
        (iso(move.at_s), alias, f"{facts.version.name}@{move.version}", move.decision.get("by", ""), move.decision.get("why", ""))
        for alias, move in facts.decisions
    ]
    tags = _listed(dict(sorted(facts.tags.items())))
    text = "\n\n".join(filter(None, [table(("at", "alias", "version", "by", "why"), rows) if rows else "", tags]))
    return [("Relevant changes made by the provider", text)]


def _after(facts: Facts) -> list[Part]:
    kept = (
        "Every answer of an endpoint is kept with its request, features, model version and time, and leads back to this documentation "
        "(`bedplate lineage ANSWER`); `bedplate affected` finds the versions and answers that saw a person's rows."
    )
    served = kept if facts.endpoints else ""
    return [("System to evaluate performance after it is on the market (Article 72)", served and f"{served}\n\nThe plan: {PERSON}")]
