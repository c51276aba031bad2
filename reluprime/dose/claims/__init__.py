"""How many kinks does it take: our sentences about doses.

No paper claims these; they are registered and computed like the papers' claims. The numbers in
them are from pilots.
"""

from reluprime.dose.claims.by_dose import BY_DOSE
from reluprime.dose.claims.constant import D4, D5, D6
from reluprime.dose.claims.derivative import D1, D2, D3
from reluprime.dose.claims.mitigation import D8
from reluprime.dose.claims.scaling import D9, D10
from reluprime.dose.claims.stand_in import D7

CLAIMS = (D1, D2, D3, D4, D5, D6, D7, D8, D9, D10, *BY_DOSE.values())
