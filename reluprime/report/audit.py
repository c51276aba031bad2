"""Where the released code and the papers differ: the table of all findings of the audit."""

from typing import NamedTuple

import pandas as pd

from reluprime.report.page import Link

B21, M23 = "B21", "M23"
FIRST, DETAILS, REPLICATION = "11_audit", "17_audit_details", "18_audit_m23"  # pages
NOT_MEASURED = "not measured"


class Finding(NamedTuple):
    """One difference: the heading that it has on its page, and what it does to which claims."""

    heading: str
    paper: str
    figure: str  # the paper's figure, table or section
    effect: str
    claims: tuple[str, ...] = ()
    page: str = FIRST


# By effect, largest first; each is a heading of its page, held by a test.
FINDINGS = (
    Finding(
        "The gradient rule",
        "both",
        "all but B21's Fig. 2 and 7, rows 1 and 2 of its Table 1, M23's Fig. 4",
        "the size of every effect, by orders of magnitude",
        (*("P1", "P3", "P7"), *(f"P{n}" for n in range(9, 18)), "R1", "R2", "R4", "R7"),
    ),
    Finding(
        "The plotted share of ReLU calls at 0",
        B21,
        "Fig. 6",
        "plotted 60,000 times the share",
        ("P17",),
    ),
    Finding(
        "Table 1, second row",
        B21,
        "Table 1",
        "1,000 times too small, impossible as printed",
        ("P6",),
    ),
    Finding(
        "MobileNet never received s",
        M23,
        "Section 4.5",
        "both arms of the search are one model",
        ("R5", "R6"),
        page=REPLICATION,
    ),
    Finding(
        "The ResNet's blocks never received s",
        M23,
        "Fig. 5",
        "s is in one layer alone",
        ("R4",),
        page=REPLICATION,
    ),
    Finding(
        "Differences of sums called an L1 norm",
        M23,
        "Fig. 1, 2 and 5",
        "networks far apart can have equal sums",
        ("R1",),
        page=REPLICATION,
    ),
    Finding(
        "Two formats called 16 bits",
        M23,
        "all at 16 bits",
        "other rates of zeros, and the order can turn round",
        ("R1", "R2", "R7"),
        page=REPLICATION,
    ),
    Finding(
        "Momentum and weight decay",
        B21,
        "Section 4",
        "a gradient applies ten times over",
        ("P9", "P10"),
    ),
    Finding(
        "The first layer's weights alone", B21, "Table 1", "another size of the difference", ("P7",)
    ),
    Finding(
        "Two ReLUs for three hidden layers",
        B21,
        "Table 1",
        "fewer networks in the zone in native arithmetic, about as many in epilogue",
        ("P5", "P6", "P7"),
    ),
    Finding(
        "The initialisation as written",
        B21,
        "Section 3.2",
        "smaller changes of the gradient; no clear change of shares",
        ("P7",),
    ),
    Finding(
        "Batch norm and the zone at 32 bits",
        B21,
        "Fig. 5 and 16",
        "depends on where a kernel rounds",
        ("P16",),
        page=DETAILS,
    ),
    Finding(
        "Structural zeros in ResNet-18",
        B21,
        "Appendix D.1",
        "zeros in every precision",
        page=DETAILS,
    ),
    Finding(
        "Bars at 64 bits",
        B21,
        "Fig. 2",
        "bars of 0.5 % that no run made",
        ("P2", "P5", "P8"),
        page=DETAILS,
    ),
    Finding("Runs without a value", B21, "Fig. 14 and 15", NOT_MEASURED, ("P10", "P14"), DETAILS),
    Finding(
        "Learning rates chosen on test images",
        B21,
        "Section 4.1",
        "small in a simulation",
        page=DETAILS,
    ),
    Finding(
        "Box plots of mini-batches, and losses as integers",
        M23,
        "Fig. 3 and 5",
        "spread of mini-batches, not of runs",
        ("R2",),
        page=REPLICATION,
    ),
    Finding("Inputs", B21, "Sections 3 and 4", NOT_MEASURED, page=DETAILS),
    Finding("Controls", B21, "Section 3", "not known", page=DETAILS),
    Finding(
        "The plane of the picture",
        B21,
        "Fig. 1 and 7",
        "the picture, not the area",
        ("P4",),
        page=DETAILS,
    ),
    Finding(
        "Code that cannot have made a figure",
        "both",
        "Section 4",
        "older versions did",
        ("P15",),
        page=DETAILS,
    ),
    Finding(
        "What is not released, and what is not ReLU",
        "both",
        "Fig. 3 and 17",
        "cannot be checked",
        ("P9", "P11"),
        page=DETAILS,
    ),
)


def anchor(heading: str) -> str:
    """The anchor that the book gives a heading."""
    letters = "".join(c if c.isalnum() else " " for c in heading.lower())
    return "-".join(letters.split())


def table() -> pd.DataFrame:
    """A row a finding, in the order of its effect: what differs, paper, figure, effect, claims."""
    return pd.DataFrame(
        {
            "": number,
            "difference": Link(f.heading, f"{f.page}.html#{anchor(f.heading)}"),
            "paper": f.paper,
            "figure or part": f.figure,
            "effect": f.effect,
            "claims": tuple(Link(i, f"00_scorecard.html#{i.lower()}") for i in f.claims),
        }
        for number, f in enumerate(FINDINGS, 1)
    )
