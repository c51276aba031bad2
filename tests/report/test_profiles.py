"""Files that are no profiles: refused by file and line, before anything is computed."""

import pytest

from reluprime.cli import main
from reluprime.report import pages

GOOD = "every_page:\n  store: here\n02_relative_volume:\n  n_networks: 3\n"
WRONG = {
    "bad YAML": (GOOD + "  dataset: [mnist\n", "line 6 is no profile: expected ',' or ']'"),
    "a tab": (GOOD + "\tdataset: mnist\n", "line 5 is no profile: found character '\\t'"),
    "code": (GOOD + "  dataset: !!python/name:os.system\n", "line 5 is no profile: could not"),
    "a page twice": (
        GOOD + "02_relative_volume:\n",
        "line 5 is no profile: 02_relative",
    ),
    "a value twice": (GOOD + "  n_networks: 4\n", "line 5 is no profile: n_networks comes twice"),
    "a map as key": (GOOD + "  {a: b}: 4\n", "line 5 is no profile: found unhashable key"),
    "a page": (GOOD + "99_nowhere:\n  n_networks: 3\n", "line 5: there is no page 99_nowhere"),
    "a parameter": (GOOD + "  n_network: 3\n", "line 5: 02_relative_volume has no parameter n_net"),
    "a number's name": (GOOD + "  7: 3\n", "line 5: 02_relative_volume has no parameter 7"),
    "a page's in all": ("every_page:\n  half: 3\n", "line 2: every_page has no parameter half"),
    "a value": (
        GOOD + "  small_networks: 0\n",
        "line 5: wrong parameters of 02_rel",
    ),
    "a text": (GOOD + "  small_networks: '9'\n", "small_networks='9': Input should be a valid int"),
    "a value for all": ("every_page:\n  store: 3\n", "line 2: wrong parameters of"),
    "itself": (GOOD + "  precisions: &a [*a]\n", "line 5: wrong parameters of 02_relative_volume"),
    "a list": ("- n_networks\n", "line 1: a profile has sections"),
    "a list as section": (
        "02_relative_volume: [3]\n",
        "line 1: the section 02_relative",
    ),
    "no section": ("02_relative_volume:\n", "line 1: the section 02_relative"),
    "a text as list": (
        GOOD + "  as_report: dataset\n",
        "line 5: as_report must be a list",
    ),
    "names of others": (
        GOOD + "  as_report: [mlp_s, [1]]\n",
        "line 5: as_report must be a list",
    ),
    "empty": ("", "line 1: a profile has sections"),
    "binary": (b"\x80\xff\x00", " is no profile: 'utf-8' codec can't decode"),
    "zeros": (bytes(9), " is no profile: unacceptable character"),
    "deep": ("[" * 5000, " is no profile: "),
}


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """The path of a profile called `own`, among profiles that are there."""
    monkeypatch.setattr(pages, "PROFILES", tmp_path)
    return tmp_path / "own.yaml"


def refused(command, capsys):
    """What a command says that is refused as a whole."""
    assert main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_profile_is_named_with_its_line(content, message, profile, tmp_path, capsys):
    profile.write_bytes(content if isinstance(content, bytes) else content.encode())
    out = tmp_path / "out"
    for command in (["plan", "own", "--page", "02"], ["run", str(out), "--profile", "own"]):
        said = refused(command, capsys)
        assert said.startswith(f"reluprime {command[0]}: {profile}")
        assert message in said
        assert said.count("\n") == 1  # one sentence
    assert [*tmp_path.iterdir()] == [profile]  # nothing was computed or written


def test_a_profile_that_cannot_be_read_is_named(profile, capsys):
    profile.symlink_to("nowhere")
    assert f"{profile} cannot be read: No such file" in refused(["plan", "own"], capsys)
    profile.unlink()
    profile.mkdir()
    assert f"{profile} cannot be read: Is a directory" in refused(["plan", "own"], capsys)


def test_a_profile_that_is_not_there_is_named_with_those_that_are(profile, capsys):
    profile.write_text(GOOD)
    assert "profile='other'; choose one of ['own', 'report']" in refused(["plan", "other"], capsys)


def test_a_good_profile_is_read(profile):
    profile.write_text(GOOD + "  as_report: [dataset]\n")
    assert pages.section("02_relative_volume", "own") == {"store": "here", "n_networks": 3}
    assert pages.section("16_trust", "own") == {"store": "here"}
