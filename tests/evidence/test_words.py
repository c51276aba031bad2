import pytest

from reluprime.evidence.words import calls_a_hit


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1 / 1583, "1,600"),
        (1.0959e-08, "91 million"),
        (2.9e-07, "3.4 million"),
        (2.4e-09, "420 million"),
        (0.5, "2"),
        (0.0, "no call"),
    ],
)
def test_a_rate_is_one_in_so_many(rate, words):
    assert calls_a_hit(rate) == words
