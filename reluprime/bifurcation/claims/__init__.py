"""The claims about paired runs: B21 Section 3.1 (P1 to P4), and M23's R1."""

from reluprime.bifurcation.claims.events import P1, P2, P3
from reluprime.bifurcation.claims.plane import P4
from reluprime.bifurcation.claims.precision import R1

CLAIMS = (P1, P2, P3, P4, R1)
