"""What the options of the commands that write texts mean."""

import pytest

from mdlm_core.errors import ConfigError, UnknownNameError, UsageError
from mdlm_personality.cli import given
from mdlm_personality.cli.results import check_out


def test_a_person():
    assert given.person_of(None, None) == {}
    assert given.person_of("0.8,?,0.7,-,0", None) == {
        "openness": 0.8,
        "extraversion": 0.7,
        "neuroticism": 0.0,
    }
    assert given.person_of("e=0.5", ["wellness=3"]) == {
        "extraversion": 0.5,
        "wellness": 3.0,
    }
    with pytest.raises(UnknownNameError, match="extraversion"):
        given.person_of("extravert=0.5", None)


@pytest.mark.parametrize(
    ("traits", "match"),
    [
        ("0.8,nan,0.7,0.9,0.3", "conscientiousness is nan.*write \\?"),
        ("e=nan", "extraversion is nan"),
        ("e=0.5,e=0.6", "e twice"),
        ("e=0.5,extraversion=0.6", "extraversion is given twice"),
    ],
)
def test_a_person_that_is_refused(traits, match):
    with pytest.raises(UsageError, match=match):
        given.person_of(traits, None)


def test_assignments_may_be_repeated_or_listed():
    assert given.assignments("--do", ["e=0.1,o=0.2", "x=0.3"]) == {
        "extraversion": 0.1,
        "openness": 0.2,
        "x": 0.3,
    }
    with pytest.raises(UsageError, match="--do sets extraversion twice"):
        given.assignments("--do", ["e=0.1", "extraversion=0.2"])


def test_one_kind_of_change():
    assert given.change_of(["e=0.1"], None) == ({"extraversion": 0.1}, "counterfactual")
    assert given.change_of(None, ["e=-0.1"]) == ({"extraversion": -0.1}, "shift")
    for do, shift in ((None, None), (["e=0"], ["e=0"])):
        with pytest.raises(UsageError, match="give"):
            given.change_of(do, shift)


def test_guidance():
    found = given.guidance_of(2.0, "interval", "0.1,0.5", None, "e=0")
    assert (found.scale, found.interval) == (2.0, (0.1, 0.5))
    assert found.negative == (None, None, 0.0, None, None)
    single = given.guidance_of(1.0, "constant", "0,0.6", ["e=3"], None)
    assert single.per_trait == {"extraversion": 3.0}
    with pytest.raises(ConfigError, match="interval"):
        given.guidance_of(2.0, "interval", "0.6,0.1", None, None)
    with pytest.raises(ConfigError, match="finite"):
        given.guidance_of(float("nan"), "constant", "0,0.6", None, None)


def test_a_file_that_is_there_is_kept(tmp_path):
    file = tmp_path / "a"
    check_out(file, force=False)
    file.write_text("")
    check_out(file, force=True)
    for path, match in (
        (file, "--force"),
        (tmp_path, "is a folder"),
        (tmp_path / "b" / "c", "there is no folder"),
    ):
        with pytest.raises(UsageError, match=match):
            check_out(path, force=False)
