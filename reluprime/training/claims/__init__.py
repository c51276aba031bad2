"""The claims about training: B21 Section 4 (P9 to P15, P17), and M23's R2, R4, R5 and R7.

Those of B21 are judged at reduced scale: most ask for a predicate of
:mod:`reluprime.training.arms` at one scale with five seeds, and for the same at larger ones with
three.
"""

from reluprime.training.claims.accuracy import P9, P10, P11
from reluprime.training.claims.batch_norm import P12
from reluprime.training.claims.mitigation import P13, P14, P15
from reluprime.training.claims.mnist import R2, R4, R5, R7
from reluprime.training.claims.zero_calls import P17

CLAIMS = (P9, P10, P11, P12, P13, P14, P15, P17, R2, R4, R5, R7)
