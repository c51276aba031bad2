"""The tries that the page on trust asks for."""

from typing import Annotated, Literal

from pydantic import Field

from reluprime.parameters import Distinct, Grids, Number, SweepParameters
from reluprime.trust.study import Family, TrustConfig, campaign

# Tries of each family at full scale; a whole campaign stays within half an hour on two cores.
TRIES = {
    "sweep killed": 60,
    "training killed": 50,
    "search killed": 40,
    "append killed": 40,
    "save killed": 30,
    "merge killed": 30,
    "page killed": 6,
    "record cut": 2000,
    "disk full": 20,
    "read-only": 10,
    "no home": 4,
    "processes": 48,
    "records": 300,
    "parameters": 1500,
    "commands": 100,
    "plans": 60,
    "data": 60,
    "images": 40,
    "pickles": 40,
}


class Trust(SweepParameters):
    """Page 16: what was tried, and what held."""

    compute: Literal["missing", "never", "always"] = "never"  # `make trust` does
    families: Distinct[Family] = []  # empty: all
    tries_at_most: Number = 2000
    trust_seed: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    def grids(self) -> Grids:
        """One sweep, `tried`."""
        grid = [
            TrustConfig(
                family=name, tries=min(TRIES[name], self.tries_at_most), seed=self.trust_seed
            )
            for name in self.families or TRIES
        ]
        return {"tried": (campaign, grid)}
