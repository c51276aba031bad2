"""The claims of the Monte Carlo: B21 3.2 and 4.4 (P5 to P8, P16), M23's R3; and two of ours."""

from reluprime.volume.claims.convolutional import P16
from reluprime.volume.claims.predictions import A1, A2
from reluprime.volume.claims.quartiles import P7
from reluprime.volume.claims.sizes import P8, R3
from reluprime.volume.claims.table_1 import P5, P6

CLAIMS = (P5, P6, P7, P8, P16, R3)
OURS = (A1, A2)
