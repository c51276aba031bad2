"""Shares of networks in the zone over one size (B21 Fig. 2, M23 Fig. 4), ours and the published."""

from collections.abc import Sequence

import pandas as pd

from reluprime.volume.experiments import Sweep
from reluprime.volume.shares import published_shares, sample_shares_by_rule, shares_by_rule


def size_panels(
    cells: pd.DataFrame, sweep: Sweep, samples: Sequence[int], table: pd.DataFrame
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Ours and the published shares over each size, for `figures.volume_figure`.

    cells: rows of `zone.first_affected` of the configs of `sweep`. samples: numbers of images; the
    curve over them is of the base network, at mini-batches of 256. table: see
    `shares.published_shares`.
    """
    base = sweep.panel(cells, "batch_size", 256)
    ours = {"sample_size": sample_shares_by_rule(base, samples)}
    ours |= {by: shares_by_rule(sweep.panel(cells, by), by) for by in sweep.shapes}
    return {by: (shares, published_shares(table, by)) for by, shares in ours.items()}
