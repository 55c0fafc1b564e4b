"""`bedplate catalog`: a table of accelerators, and of one every figure with its source."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate


def test_the_table_has_every_accelerator_and_json_its_sources(tmp_path: Path) -> None:
    done = bedplate(tmp_path, "catalog")
    assert done.returncode == 0
    listed = as_json(tmp_path, "catalog")
    assert len(listed) > 15
    assert all(each["name"] in done.stdout for each in listed)
    assert all("memory" in each["cites"] for each in listed)


def test_one_accelerator_is_told_with_the_source_of_every_figure(tmp_path: Path) -> None:
    text = bedplate(tmp_path, "catalog", "h100", "mi300x").stdout
    assert "H100-SXM (NVIDIA)" in text
    assert "MI300X (AMD)" in text
    assert text.count("https://") >= 20
    assert "estimate" in text


def test_an_unknown_accelerator_names_the_nearest(tmp_path: Path) -> None:
    done = bedplate(tmp_path, "catalog", "h10")
    assert done.returncode == 1
    assert "h100" in done.stderr
