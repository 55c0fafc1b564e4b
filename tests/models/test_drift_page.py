"""The drift page: whole, without anything from outside, nothing of the data taken for HTML, the column that moved most first."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np

from bedplate.models.drift_page import page
from bedplate.models.drift_report import of_numbers, of_texts


def test_the_page_is_whole_and_ranks_what_moved() -> None:
    same = np.arange(100.0)
    columns = [
        of_numbers("calm", same, same),
        of_texts("odd", Counter({"<script>alert(1)</script>": 9}), Counter({"a&b": 1})),
        of_texts("a<b", Counter(), Counter()),
    ]
    text = page("sales@1", "sales@2", (9, 1), columns)
    body = text[text.index("<body>") : text.index("</html>")].replace("class=number", 'class="number"')
    root = ET.fromstring(body)  # every tag is closed, and no value opened one
    assert [cell.text for cell in root.findall(".//td/a")] == ["odd", "calm", "a<b"]
    assert [heading.text for heading in root.findall("h2")] == ["odd", "calm", "a<b"]
    assert {row.get("class") for row in root.findall(".//tr") if row.get("class")} == {"moved", "stable"}
    bars = root.findall(".//rect")
    assert len(bars) == 2 * sum(len(each.bins) for each in columns)
    assert all(0 <= float(bar.get("height", "-1")) <= 200 for bar in bars)
    assert "http" not in text
    assert "<script" not in text
