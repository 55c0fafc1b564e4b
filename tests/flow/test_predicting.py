"""A question in words to a plan: every option shows in the answer, every mistake names the fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, NotFound
from bedplate.flow.predicting import Question, accelerators, answer, bandwidth, quantity

ASKED = {"model": "llama3-8b", "hardware": "8 x H100-SXM", "seq": 8192, "batch": 64}


def test_a_question_is_answered_with_meshes_and_a_bill() -> None:
    found = answer(Question(**ASKED))
    assert found.found.best[0].layout.devices == 8
    assert found.work.tokens == 64 * 8192
    assert found.bill is not None
    assert found.bill.tokens == 1e9
    assert found.remarks == ()


def test_sequence_and_batch_have_defaults_that_divide() -> None:
    found = answer(Question("llama3-8b", "24 x H100"))
    assert found.work.sequence == 4096
    assert found.work.batch % 24 == 0


def test_what_is_settled_stays() -> None:
    found = answer(Question(**ASKED, mesh="tensor=2,shard=4", micro_batch=2, recompute="full"))
    [best] = found.found.best
    assert best.layout.axes() == {"shard": 4, "tensor": 2}
    assert (best.layout.micro_batch, best.layout.recompute) == (2, "full")


def test_fused_kernels_and_fp8_are_faster() -> None:
    plain, low = answer(Question(**ASKED)), answer(Question(**ASKED, precision="fp8", kernels="fused"))
    assert low.found.best[0].tokens_per_s_per_device > 1.3 * plain.found.best[0].tokens_per_s_per_device


def test_storage_that_is_too_slow_is_said() -> None:
    found = answer(Question(**ASKED, storage="100 kB/s"))
    assert found.found.best[0].tokens_per_s_per_device == pytest.approx(100e3 / 4 / 8, rel=0.01)
    assert any("storage holds it back" in remark for remark in found.remarks)


def test_checkpoints_take_their_share() -> None:
    assert answer(Question(**ASKED, checkpoint_every="1m")).found.best[0].time.checkpoint_s > 0


def test_price_tokens_and_power_are_taken() -> None:
    found = answer(Question(**ASKED, price=2.0, tokens="15T", power_limit=500.0))
    assert found.bill is not None
    assert found.bill.cost_usd == pytest.approx(found.bill.device_hours * 2)
    assert found.bill.tokens == 15e12
    assert found.found.best[0].tokens_per_s_per_device < answer(Question(**ASKED)).found.best[0].tokens_per_s_per_device


def test_a_config_file_is_a_model(tmp_path: Path) -> None:
    config = {"hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 4096, "vocab_size": 1000}
    (tmp_path / "small.json").write_text(json.dumps(config))
    assert answer(Question(str(tmp_path / "small.json"), "2 x L4")).work.shape.name == "small"
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(BedplateError, match="no JSON"):
        answer(Question(str(tmp_path / "broken.json"), "2 x L4"))
    with pytest.raises(BedplateError, match="no such file"):
        answer(Question(str(tmp_path / "absent.json"), "2 x L4"))


def test_what_the_figures_rest_on_is_remarked() -> None:
    remarks = answer(Question("llama3-8b", "8 x MI300X", precision="fp8")).remarks
    assert any("read these figures as rough" in remark for remark in remarks)
    remarks = answer(Question("llama3-8b", "8 x A100", precision="fp8")).remarks
    assert remarks == ("A100-80GB-SXM has no fp8: computed in bf16",)
    assert any("nobody publishes" in remark for remark in answer(Question("llama3-8b", "16 x L4")).remarks)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"precision": "fp7"}, "no such precision.*did you mean 'fp8'"),
        ({"kernels": "fussed"}, "no such kernels.*did you mean 'fused'"),
        ({"recompute": "partial"}, "no such recompute"),
        ({"mesh": "tensr=2"}, "no such axis.*did you mean 'tensor'"),
        ({"mesh": "tensor=x"}, "write for example tensor=2"),
        ({"storage": "fast"}, "for example 2GB/s"),
        ({"tokens": "many"}, "for example 15T"),
        ({"batch": -1}, "--batch must be from 1 on"),
        ({"checkpoint_every": "soon"}, "not a duration"),
    ],
)
def test_a_mistake_names_the_fix(asked: dict[str, object], said: str) -> None:
    with pytest.raises(BedplateError, match=said):
        answer(Question(**{**ASKED, **asked}))


def test_numbers_and_bandwidths_are_read_as_people_write_them() -> None:
    assert [quantity(text, "tokens") for text in ("15T", "300B", "2e9", "1000", "1.5m")] == [15e12, 300e9, 2e9, 1000, 1.5e6]
    assert [bandwidth(text) for text in ("2GB/s", "500 MB/s", "100Gb/s", "1 TBps")] == [2e9, 500e6, 12.5e9, 1e12]


def test_accelerators_are_listed_by_name_or_all() -> None:
    assert [device.name for device in accelerators(["h100", "tpu v4"])] == ["H100-SXM", "TPU-v4"]
    assert len(accelerators()) > 15
    with pytest.raises(NotFound):
        accelerators(["abacus"])


def test_tpus_are_planned_from_the_catalog_and_the_figures_are_called_rough() -> None:
    report = answer(Question(model="llama3-8b", hardware="64 x v5e", seq=4096, batch=64))
    assert report.cluster.device.name == "TPU-v5e"
    assert report.found.best[0].memory.total_bytes < 16 * 2**30
    assert any("read these figures as rough" in remark for remark in report.remarks)
