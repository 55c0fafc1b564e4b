"""What the doctor shows of a run and of a step trace: in words for the terminal, and as the page.

Does not know: how findings are made (`rules`, `what_if`), or where files go.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from bedplate.core.clock import human_duration
from bedplate.train.doctor.measured import Measured
from bedplate.train.doctor.page import Section, bars, page, stacked, table
from bedplate.train.doctor.rules import VERDICTS, Finding
from bedplate.train.doctor.what_if import Blame, WhatIf
from bedplate.train.goodput import MEANING, Goodput
from bedplate.train.timers import SPANS

BARS = 60
MOST_RANKS = 64


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """The findings in words, the most expensive first."""
    lines = []
    for number, finding in enumerate(findings, start=1):
        gain = f"would gain {human_duration(finding.gain_s)}, {finding.gain_share:.0%} of the step" if finding.gain_s else "healthy"
        if finding.verdict == "compute" and number > 1:
            gain = "the rest"
        lines += [f"{number}. {finding.verdict.replace('_', ' ')} ({gain}): {VERDICTS[finding.verdict]}"]
        lines += [f"   evidence: {finding.evidence}", f"   next: {finding.next}"]
    return lines


def run_page(run_id: str, measured: Measured | None, findings: Sequence[Finding], ledger: Goodput) -> str:
    """The page about a run."""
    lead = (
        f'<div class="first"><p><b>{escape(_headline(findings))}</b></p></div>' if findings else "<p>It has no steps that were timed.</p>"
    )
    sections = []
    if findings:
        rows = [
            (
                each.verdict.replace("_", " "),
                each.evidence,
                f"{human_duration(each.gain_s)} ({each.gain_share:.0%})" if each.gain_s else "-",
                each.next,
            )
            for each in findings
        ]
        sections.append(Section("What holds it back", table(("bottleneck", "evidence", "expected gain", "next experiment"), rows)))
    if measured is not None:
        sections += [_over_time(measured), _by_rank(measured)]
        if measured.profile is not None:
            sections.append(_profiled(measured))
    wall_s = ledger.wall_s or 1.0
    buckets = [(name, seconds) for name, seconds in ledger.seconds.items()]
    told = [(name.replace("_", " "), seconds, f"{seconds / wall_s:.1%}", MEANING[name]) for name, seconds in buckets]
    body = bars(buckets, unit="s") + table(("bucket", "seconds", "share", "what it is"), told)
    if ledger.gains:
        body += table(("fix", "would have saved, s"), [(gain.fix, gain.gain_s) for gain in ledger.gains])
    sections.append(Section(f"Where {human_duration(ledger.wall_s)} went", body))
    return page(f"Doctor: {run_id}", lead, sections)


def trace_lines(found: WhatIf) -> list[str]:
    """What a step trace says, in words."""
    lines = [
        f"slowdown {found.slowdown:.3f}: {found.steps} steps took {found.played_s:.4g} s where {found.ideal_s:.4g} s were ideal",
        f"as observed they took {found.observed_s:.4g} s, {_off(found):+.1%} against what their dependencies explain",
    ]
    for title, blames in (("part", found.parts), ("stage", found.stages), ("worker", found.workers)):
        for blame in blames[:5]:
            if blame.slowdown > 1.0005 or blame is blames[0]:
                lines.append(
                    f"{title} {blame.name}: alone it slows the run {blame.slowdown:.3f} x, {blame.share:.0%} of what is lost; "
                    f"made ideal it gains {blame.gain_s:.4g} s"
                )
    return lines


def trace_page(name: str, found: WhatIf) -> str:
    """The page about a step trace."""
    lead = f'<div class="first"><p><b>{escape(trace_lines(found)[0])}</b></p><p>{escape(trace_lines(found)[1])}</p></div>'
    sections = [
        Section(title, bars([(blame.name, blame.slowdown) for blame in blames], unit="x", zero=1.0) + _blames(blames))
        for title, blames in (
            ("Slowdown with only this part as it was", found.parts),
            ("Slowdown with only this stage as it was", found.stages),
            ("Slowdown with only this worker as it was", found.workers),
        )
    ]
    return page(f"Doctor: {name}", lead, sections)


def _off(found: WhatIf) -> float:
    return found.observed_s / found.played_s - 1 if found.played_s > 0 else 0.0


def _blames(blames: Sequence[Blame]) -> str:
    rows = [(each.name, each.slowdown, f"{each.share:.0%}", each.gain_s) for each in blames[:20]]
    return table(("name", "slowdown", "part of what is lost", "gain if ideal, s"), rows)


def _headline(findings: Sequence[Finding]) -> str:
    first = findings[0]
    if not first.gain_s:
        return f"{first.verdict}: {VERDICTS[first.verdict]}"
    gain = f"its absence would gain {human_duration(first.gain_s)} ({first.gain_share:.0%} of the step)"
    return f"{first.verdict.replace('_', ' ')}: {VERDICTS[first.verdict]}; {gain}"


def _over_time(run: Measured) -> Section:
    groups = np.array_split(np.arange(len(run.steps)), min(BARS, len(run.steps)))
    ends = np.cumsum(run.steps)
    labels = [str(int(ends[group[-1]])) for group in groups]
    mean = run.spans.mean(axis=1)
    parts = {
        name: [1e3 * float(np.average(mean[group, index], weights=run.steps[group])) for group in groups]
        for index, name in enumerate(SPANS)
    }
    return Section("A step over time, mean of all ranks", stacked(parts, labels, across="steps since the first ones", unit="ms a step"))


def _by_rank(run: Measured) -> Section:
    ranks = min(run.ranks, MOST_RANKS)
    mean = 1e3 * np.average(run.spans, axis=0, weights=run.steps)[:ranks]
    parts = {name: mean[:, index].tolist() for index, name in enumerate(SPANS)}
    return Section("A step of each rank", stacked(parts, [str(rank) for rank in range(ranks)], across="rank", unit="ms a step"))


def _profiled(run: Measured) -> Section:
    profile = run.profile
    assert profile is not None
    note = f"{profile.steps} steps of rank 0 were profiled; that cost the run {human_duration(profile.cost_s)}."
    facts = [
        ("kernels (operators on a CPU) a step", profile.launches),
        ("to launch one, us", 1e6 * profile.launch_s),
        ("in kernels, ms a step", 1e3 * profile.kernel_s),
        ("of it in kernels that only move elements, ms a step", 1e3 * profile.memory_s),
    ]
    top = bars([(name[:28], 1e3 * seconds) for name, seconds in profile.top], unit="ms a step")
    return Section("The profiled window", f'<p class="note">{escape(note)}</p>{table(("what", "value"), facts)}{top}')
