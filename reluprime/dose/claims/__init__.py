"""How many kinks does it take: our sentences about doses.

No paper claims these; they are registered and computed like the papers' claims. The numbers in
D1 to D10 are from pilots. D11 to D16 (BY_DOSE, by the claim that each is about) ask for what the
papers say at the papers' own dose.
"""

from reluprime.dose.claims.by_dose import BY_DOSE
from reluprime.dose.claims.constant import D4, D5, D6
from reluprime.dose.claims.derivative import D1, D2, D3
from reluprime.dose.claims.mitigation import D8
from reluprime.dose.claims.scaling import D9, D10
from reluprime.dose.claims.stand_in import D7

SENTENCES = (D1, D2, D3, D4, D5, D6, D7, D8, D9, D10)
CLAIMS = (*SENTENCES, *BY_DOSE.values())
