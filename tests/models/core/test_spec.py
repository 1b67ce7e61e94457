import pytest

from unveil.app.cli import spec_parser
from unveil.models import catalog
from unveil.models.catalog import ParameterError, UnknownName
from unveil.models.core.spec import parse_spec

SCHEMAS = {
    "pixelwise": {"key_mode": {"enum": ["same", "different"]}},
    "fr": {"L": {"type": "integer"}, "nibblewise": {"type": "boolean"}},
    "none": {"images": {"type": ["integer", "null"]}},
}


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("fr", "fr", {}),
        ("fr:L=4:nibblewise=true", "fr", {"L": 4, "nibblewise": True}),
        ("pixelwise:different", "pixelwise", {"key_mode": "different"}),
        ("pixelwise:key_1:same", "pixelwise", {"key_id": "key_1", "key_mode": "same"}),
        ("external:ds_1", "external", {"dataset": "ds_1"}),
        ("none:images=null", "none", {"images": None}),
        ("none:images=NaN", "none", {"images": "NaN"}),
        ("none:images=1e999", "none", {"images": "1e999"}),
        ("none:images=a=b", "none", {"images": "a=b"}),
    ],
)
def test_a_spec_is_a_name_and_its_settings(text, name, settings):
    assert parse_spec(text, SCHEMAS) == (name, settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fr:L=4,nibblewise=true", "separate settings with colons: fr:L=4:nibblewise=true"),
        ("nibblewise=true", "separate settings with colons: NAME:nibblewise=true"),
        ("pixelwise:diferent", r"write one of pixelwise:SETTING=VALUE; settings: key_mode=same\|different$"),
        ("none:few", r"settings: images=integer\|null$"),
        ("magic:loud", "unknown name 'magic'; choose from pixelwise, fr, none"),
    ],
)
def test_text_outside_the_grammar_is_refused_with_the_right_form(text, message):
    with pytest.raises(ParameterError, match=message):
        parse_spec(text, SCHEMAS)


def test_the_command_line_and_the_science_read_a_spec_alike():
    for kind, described in (
        ("scheme", [catalog.describe_scheme(name) for name in catalog.schemes()]),
        ("attack", [catalog.describe_attack(name) for name in catalog.attacks()]),
    ):
        for text in ("tanaka:icce2018", "pixelwise:different") if kind == "scheme" else ("fr:L=4:nibblewise=true",):
            assert catalog.parse_spec(kind, text) == spec_parser.parse_spec(text, described)


def test_the_catalog_also_validates_the_settings():
    with pytest.raises(ParameterError, match="L"):
        catalog.parse_spec("attack", "fr:L=9")
    with pytest.raises(UnknownName, match="unknown scheme 'rot13'; choose from"):
        catalog.parse_spec("scheme", "rot13")
    with pytest.raises(ParameterError, match="fr:L=4:nibblewise=true"):
        catalog.parse_spec("attack", "fr:L=4,nibblewise=true")
