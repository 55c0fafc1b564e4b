"""The pages of an evidence folder that people read: data sheets, evaluation, cost and energy, and what the folder holds.

Does not know: the model card (`models.card`) or the technical documentation (`annex`).
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from bedplate.core.clock import human_duration, iso
from bedplate.models.evidence.bom import performance
from bedplate.models.evidence.facts import PERSON, Facts, Sheet, Spent, number, table


def sheet_page(sheet: Sheet) -> str:
    """The data sheet of one table, in Markdown."""
    version, undeclared = sheet.version, "not declared"
    facts = {
        "version": f"{version.ref}, digest {version.digest}",
        "cut at": iso(version.created_at_s),
        "rows": version.meta.get("rows", "unknown"),
        "rows kept apart as invalid": version.meta.get("quarantined"),
        "source": sheet.source,
        "key": ", ".join(sheet.key) or None,
        "known at": sheet.known_at or None,
        "backfill": sheet.backfill or None,
        "license": sheet.license or undeclared,
        "residency": sheet.residency or undeclared,
        "persons": f"named by the column `{sheet.subject}`" if sheet.subject else f"{undeclared} (`subject:`)",
    }
    known = "\n".join(f"- {name}: {value}" for name, value in facts.items() if value is not None)
    rows = [(column.name, column.type, column.nulls, column.least, column.most, column.distinct) for column in sheet.columns]
    shown = [tuple("" if cell is None else cell for cell in row) for row in rows]
    columns = table(("column", "type", "missing", "least", "most", "distinct"), shown) if shown else sheet.columns_unread
    to_write = (
        ("Why it was collected", "For which purpose, by whom, and who paid for it."),
        ("How it was collected", "From whom or what, with which consent or other legal ground, over which time."),
        ("Whom it does not cover", "Groups, places and times that are missing or rare."),
        ("How it was labelled", "By whom, by which instruction, with which agreement."),
    )
    written = "\n\n".join(f"## {title}\n\n{PERSON} {hint}" for title, hint in to_write)
    ranges = "Ranges are of numbers and times; of text, the length. No value of a text column is shown."
    return f"# Data sheet: {version.name}\n\n{known}\n\n## Columns\n\n{columns}\n\n{ranges}\n\n{written}\n"


def evaluation_page(facts: Facts) -> str:
    """The evaluation of a version, whole and by slice, with the decisions that rest on it."""
    found = facts.evaluation
    parts = [f"# Evaluation of {facts.version.ref}"]
    if not found:
        parts.append(f"No evaluation of this version is recorded. {PERSON}")
    else:
        production = found.get("production_metrics") or {}
        names = sorted({*(found.get("metrics") or {}), *production})
        rows = [(name, (found.get("metrics") or {}).get(name, ""), production.get(name, "")) for name in names]
        parts.append(f"On the pinned set {found['pinned_set']}, beside production ({found.get('production') or 'none then'}).")
        parts.append(table(("metric", "this version", "production"), rows))
        slices = [(each["slice"], each["type"], each["value"]) for each in performance(found) if "slice" in each]
        parts.append("## Slices\n\n" + (table(("slice", "metric", "value"), slices) if slices else "No slices were evaluated."))
        for name in ("confidence", "drift", "measured"):
            if found.get(name):
                parts.append(f"## {name.capitalize()}\n\n{_nested(found[name])}")
    decisions = [
        (
            alias,
            iso(move.at_s),
            move.decision.get("by", ""),
            "by hand" if move.decision.get("override") else "by rule",
            move.decision.get("why", ""),
        )
        for alias, move in facts.decisions
    ]
    parts.append(
        "## Decisions\n\n" + (table(("alias", "at", "by", "how", "why"), decisions) if decisions else "No alias points or pointed to it.")
    )
    return "\n\n".join(parts) + "\n"


def _nested(value: object, indent: str = "") -> str:
    if isinstance(value, Mapping):
        return "\n".join(
            f"{indent}- {name}: {number(inner)}"
            if not isinstance(inner, Mapping | list)
            else f"{indent}- {name}:\n{_nested(inner, indent + '  ')}"
            for name, inner in value.items()
        )
    return "\n".join(f"{indent}- {_line(inner)}" for inner in value) if isinstance(value, list) else f"{indent}- {number(value)}"


def _line(value: object) -> str:
    return ", ".join(f"{name} {number(inner)}" for name, inner in value.items()) if isinstance(value, Mapping) else number(value)


def cost_page(spent: Sequence[Spent]) -> str:
    """What the version cost, run by run. All figures are estimates and say how they were made."""
    rows = [
        (each.run, each.step, human_duration(each.seconds), each.device, each.device_hours, _known(each.energy_kwh), _known(each.price_usd))
        for each in spent
    ]
    total = (
        "all",
        "",
        human_duration(sum(each.seconds for each in spent)),
        "",
        sum(each.device_hours for each in spent),
        _known(_sum([each.energy_kwh for each in spent])),
        _known(_sum([each.price_usd for each in spent])),
    )
    header = ("run", "step", "wall time", "device", "device hours", "energy, kWh (estimate)", "price, USD (estimate)")
    how = "\n".join(f"- {text}" for text in dict.fromkeys(each.how for each in spent))
    return f"# Cost and energy\n\nEvery figure but the time is an estimate.\n\n{table(header, [*rows, total])}\n\n## How\n\n{how}\n"


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _known(value: float | None) -> object:
    return "unknown" if value is None else value


KEYLESS_FILE = "model.sigstore.json"

CHECKS = """\
## How to verify it

On any machine, without the ledger. `bedplate evidence verify .` does all of it and says what holds. With other tools:

    sha256sum --check --strict SHA256SUMS                                       # every file, also without bedplate
    model_signing verify key MODEL --signature model.sig --public_key keys/model.pub.pem    # MODEL: its folder (model/, if here)

`bom.cdx.json` is a CycloneDX 1.6 document, `openlineage.jsonl` has one OpenLineage event a line, each `attestations/*.dsse.json` is a
DSSE envelope of an in-toto statement, signed with the Ed25519 key `keys/project.pub.pem`. `chain.jsonl` is a segment of the ledger's hash
chain up to a head signed with the same key; the format stands in bedplate's documentation.

Compare the key with the one that the project publishes: whoever makes a whole folder can put a key of their own into it.
`bedplate evidence verify . --key PUBLIC_KEY` does that.
"""

FILES: Mapping[str, str] = {
    "README.md": "this page",
    "index.html": "this page, for a browser",
    "SHA256SUMS": "the SHA-256 of every other file",
    "annex-iv.md": "technical documentation in the order of Annex IV of the EU AI Act, what is not known marked for a person to write",
    "attestations/": "signed statements: this folder, the provenance, and every decision that put the version behind an alias",
    "bom.cdx.json": "bill of materials: CycloneDX 1.6 ML-BOM",
    "card.md": "model card",
    "chain.jsonl": "the part of the audit log that concerns the version, with the links to a signed head",
    "cost.md": "cost and energy, estimated",
    "data/": "a data sheet of every table",
    "evaluation.md": "metrics, slices, decisions",
    "keys/": "the public keys",
    "lineage.txt": "the way back, as a tree",
    "model.sig": "OpenSSF model signature, a Sigstore bundle",
    KEYLESS_FILE: "the same signed without a key, by an identity: `model_signing verify sigstore MODEL --signature model.sigstore.json`",
    "model/": "the model itself",
    "manifest.json": "the version's manifest: its SHA-256 is the version's digest, and it has that of every file of the model",
    "openlineage.jsonl": "every run that the version came from, as OpenLineage events",
}


def readme(facts: Facts, names: Sequence[str]) -> str:
    """What the folder is, what is in it, and how to verify it."""
    tops = sorted({f"{name.split('/')[0]}/" if "/" in name else name for name in names} | {"README.md", "index.html", "SHA256SUMS"})
    rows = [(f"`{name}`", FILES.get(name, "")) for name in tops]
    about = f"Project {facts.project}, ledger {facts.ledger}. Digest {facts.version.digest}, made {iso(facts.version.created_at_s)}."
    return f"# Evidence of {facts.version.ref}\n\n{about}\n\n{table(('file', 'what it is'), rows)}\n\n{CHECKS}"


def index(facts: Facts, names: Sequence[str]) -> str:
    """The readme as a page with links; it loads nothing from anywhere."""
    links = "\n".join(f'<li><a href="{html.escape(name)}">{html.escape(name)}</a></li>' for name in sorted(names))
    title = html.escape(f"Evidence of {facts.version.ref}")
    checks = html.escape(CHECKS.partition("\n\n")[2])
    style = "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}pre{white-space:pre-wrap}"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>\n<h1>{title}</h1>\n'
        f"<p>Project {html.escape(facts.project)}, digest <code>{facts.version.digest}</code>.</p>\n<ul>\n{links}\n</ul>\n"
        f"<h2>How to verify it</h2>\n<pre>{checks}</pre>\n</html>\n"
    )
