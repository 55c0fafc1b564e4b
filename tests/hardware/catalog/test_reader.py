"""The catalog: the accelerators that are named, a source for every figure, names as people and drivers write them."""

from __future__ import annotations

import pytest

from bedplate.core.errors import BedplateError, NotFound
from bedplate.hardware.catalog.reader import FIELDS, PRECISIONS, device, devices, matching, parse_hardware

WANTED = {
    "V100-SXM2": 32,
    "A100-40GB-PCIe": 40,
    "A100-80GB-PCIe": 80,
    "A100-40GB-SXM": 40,
    "A100-80GB-SXM": 80,
    "H100-PCIe": 80,
    "H100-SXM": 80,
    "H200-SXM": 141,
    "B200": 180,
    "GB200": 186,
    "L4": 24,
    "L40S": 48,
    "MI300X": 192,
    "TPU-v4": 32,
    "TPU-v5e": 16,
    "TPU-v5p": 95,
    "TPU-v6e": 32,
    "Trainium2": 96,
    "Inferentia2": 32,
}  # GiB of memory


def test_the_accelerators_that_people_train_on_are_there() -> None:
    assert {name: devices()[name].memory_bytes / 2**30 for name in WANTED} == WANTED


@pytest.mark.parametrize("name", devices())
def test_every_figure_has_a_source_with_an_address_or_says_that_it_is_an_estimate(name: str) -> None:
    found = devices()[name]
    for field in (*found.peak_flops, *(field for field in FIELDS if field not in PRECISIONS)):
        assert "https://" in found.cites[field] or field in found.estimated, field
    assert "price" in found.estimated


@pytest.mark.parametrize("name", devices())
def test_figures_are_of_the_right_size(name: str) -> None:
    found = devices()[name]
    assert 1e10 < found.peak(found.half) < 1e16
    assert found.peak("fp8") >= found.peak(found.half) >= found.peak_flops["fp32"]
    assert 2**30 <= found.memory_bytes <= 300 * 2**30
    assert found.scale_up_bytes_per_s >= found.scale_out_bytes_per_s
    assert 1 <= found.power_w <= 2000


def test_dense_figures_are_told_not_those_with_sparsity() -> None:
    assert device("H100-SXM").peak_flops["bf16"] == 989.5e12
    assert device("H100-SXM").peak_flops["fp8"] == 1979e12
    assert device("A100").peak_flops["bf16"] == 312e12
    assert device("B200").peak_flops["fp8"] == 4500e12


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("64 x H100-SXM", 64, "H100-SXM"),
        ("64xh100", 64, "H100-SXM"),
        ("16,384 H100", 16384, "H100-SXM"),
        ("8*A100 40GB", 8, "A100-40GB-SXM"),
        ("H200", 1, "H200-SXM"),
        ("256 × tpu_v5e", 256, "TPU-v5e"),
        ("4 trillium", 4, "TPU-v6e"),
    ],
)
def test_hardware_is_read_as_people_write_it(text: str, count: int, name: str) -> None:
    found, device_ = parse_hardware(text)
    assert (found, device_.name) == (count, name)


def test_what_cannot_be_read_is_told_with_the_fix() -> None:
    with pytest.raises(BedplateError, match="for example '64 x H100-SXM'"):
        parse_hardware("64")
    with pytest.raises(BedplateError, match="from 1 on"):
        parse_hardware("0 x H100")
    with pytest.raises(NotFound, match=r"'h100'.*`bedplate catalog` lists them"):
        parse_hardware("8 x H101")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB-SXM"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB-PCIe"),
        ("Tesla V100-SXM2-32GB", "V100-SXM2"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA H200", "H200-SXM"),
    ],
)
def test_names_of_drivers_find_their_accelerator(model: str, name: str) -> None:
    found = matching(model)
    assert found is not None
    assert found.name == name


def test_a_device_that_the_catalog_has_not_is_none() -> None:
    assert matching("Matrox Millennium") is None


def test_names_and_aliases_are_unique() -> None:
    names = [each.lower() for found in devices().values() for each in (found.name, *found.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("written", ["h100-sxm", "H100 SXM", "h100_sxm", "H100SXM", " H100-SXM "])
def test_case_spaces_and_underscores_do_not_matter(written: str) -> None:
    assert device(written).name == "H100-SXM"


@pytest.mark.parametrize("name", devices())
def test_every_name_and_alias_finds_its_own_device(name: str) -> None:
    for each in (name, *devices()[name].aliases):
        assert device(each) is devices()[name], each


@pytest.mark.parametrize("name", devices())
def test_every_name_is_read_with_a_count(name: str) -> None:
    assert parse_hardware(f"16 x {name}") == (16, devices()[name])


@pytest.mark.parametrize("text", ["", "   ", "x", "-8 x H100", "8.5 x H100", "8 x", "8 x H100; rm"])
def test_what_is_no_hardware_is_refused(text: str) -> None:
    with pytest.raises(BedplateError):
        parse_hardware(text)


@pytest.mark.parametrize("text", ["1_024 x L4", "1,024 x L4", "1024 L4", "1024*l4", "  1024  ×  L4  "])
def test_counts_are_read_with_separators(text: str) -> None:
    count, found = parse_hardware(text)
    assert (count, found.name) == (1024, "L4")


def test_the_longest_name_in_a_drivers_name_wins() -> None:
    found = matching("NVIDIA L40S-48Q")
    assert found is not None and found.name == "L40S", "not L4, whose name is in it as well"
    assert matching("") is None


def test_an_unknown_device_names_what_was_asked_for() -> None:
    with pytest.raises(NotFound, match="H100-SXMM"):
        device("H100-SXMM")
