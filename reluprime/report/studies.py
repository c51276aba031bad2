"""Every study whose records the report reads, by the name that they give it."""

from collections.abc import Callable

from reluprime import bifurcation, records, volume
from reluprime.mechanism import kinks, orders
from reluprime.mechanism import study as mechanism
from reluprime.network import study as network
from reluprime.search import study as search
from reluprime.speed import study as speed
from reluprime.training import study as training
from reluprime.training import zeros
from reluprime.trust import study as trust

STUDIES: dict[str, Callable] = {
    records.study_name(study): study
    for study in (
        bifurcation.paired_run,
        bifurcation.weight_plane,
        kinks.count,
        kinks.pool_ties,
        mechanism.forward_zeros,
        mechanism.linear_zeros,
        orders.shares,
        speed.measure,
        training.fit,
        search.search,
        volume.estimate,
        network.check_network,
        zeros.count,
        trust.campaign,
        volume.first_affected,
    )
}
