import subprocess
import sys

import pytest

from unveil.models import catalog


def test_the_catalog_loads_no_large_package():
    heavy = ("torch", "torchvision", "skimage", "scipy", "numba", "celery", "sqlalchemy")
    code = (
        "import sys; from unveil.models import catalog; [catalog.describe_scheme(s) for s in catalog.schemes()];"
        "[catalog.describe_attack(a) for a in catalog.attacks()]; catalog.builtin_datasets();"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_key_spaces_are_the_papers():
    tanaka = catalog.make_scheme("tanaka", {})
    icce = catalog.make_scheme("tanaka", {"variant": "icce2018"})
    pixelwise = catalog.make_scheme("pixelwise", {})
    assert tanaka.key_space_bits(96, 96) == pytest.approx(594.277, abs=1e-3)
    assert icce.key_space_bits(96, 96) == pytest.approx(498.277, abs=1e-3)
    assert pixelwise.key_space_bits(96, 96) == pytest.approx(51471.01, abs=0.01)
    assert tanaka.key_space_bits(96, 96) / pixelwise.key_space_bits(1, 1) == pytest.approx(106.4, abs=0.05)
    assert catalog.effective_bits(pixelwise, 96, 96) == 256
    assert catalog.effective_bits(pixelwise, 1, 1) == pytest.approx(5.58496, abs=1e-5)


def test_errors_for_unknown_names_and_parameters_list_the_known_ones():
    with pytest.raises(catalog.UnknownName, match="pixelwise, tanaka"):
        catalog.make_scheme("rot13", {})
    with pytest.raises(catalog.ParameterError, match="variant"):
        catalog.make_scheme("tanaka", {"variant": "2019"})


def test_every_attack_has_a_threat_model_and_applicable_schemes():
    for name in catalog.attacks():
        described = catalog.describe_attack(name)
        assert described["threat_model"] in [model.name for model in catalog.NAMED_THREAT_MODELS]
        assert set(described["applies_to"]) | set(described["not_applicable"]) == set(catalog.schemes())
        assert described["source"]


def test_a_scheme_is_described_by_variant():
    described = catalog.describe_scheme("pixelwise", 11, 11)
    assert {v["params"]["key_mode"]: v["key_per_image"] for v in described["variants"]} == {
        "same": False,
        "different": True,
    }
    assert described["variants"][0]["paper"]["ssim"]["fr"] == 0.4646


@pytest.mark.parametrize("described", [*catalog.schemes().values(), *catalog.attacks().values()], ids=lambda c: c.name)
def test_every_numeric_setting_has_a_maximum(described):
    properties = catalog.json_schema(described.Settings)["properties"]
    numeric = [name for name, schema in properties.items() if {"integer", "number"} & {*as_list(schema["type"])}]
    assert [name for name in numeric if "maximum" not in properties[name]] == []


def as_list(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def test_an_order_of_ten_to_the_400_epochs_is_refused_with_the_limit():
    with pytest.raises(catalog.ParameterError, match="at most 100000"):
        catalog.make_attack("gan", {"epochs": 10**400})
