"""What the sentences about doses have in common."""

from functools import partial

import pandas as pd

from reluprime.dose.claims.examples import EXAMPLES
from reluprime.evidence.claim import Claim
from reluprime.evidence.finding import OPEN, Finding
from reluprime.training import arms

IN_WORDS = {"mlp": "the MLP", "vgg11": "VGG11", "resnet18": "ResNet-18"}
SHARE = 0.01  # of all inputs of a ReLU: the largest dose that the sentences are about


# A sentence of ours: a claim that no paper makes, tried on the same examples as the others.
Sentence = partial(Claim, published="no number", source="ours", examples=EXAMPLES)


def learnt(table: pd.DataFrame, loss: float) -> bool:
    """Whether every reference is so far above chance that `loss` can be told from it."""
    return bool((table["reference"] >= arms.CHANCE + arms.AT_CHANCE + loss).all())


NOT_LEARNT = Finding(OPEN, "a run at s=0 is too near chance to lose that much")


def scale_in_words(network: str) -> str:
    """The scale of a network's runs, as the scorecard says it."""
    return "5 epochs, 5 seeds" + ("" if network == "mlp" else ", a quarter of the width")
