"""The form that the results of each study have, and what is impossible in them."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

Share = Annotated[float, Field(ge=0, le=1)]
ByActivation = dict[str, NonNegativeInt]
ByEpoch = list[list[NonNegativeInt]]  # of each network


class Form(BaseModel):
    """A form: numbers are no texts, and fields that came later are not looked at."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="after")
    def _possible(self, info: ValidationInfo):
        if what := self.impossible(info.context):
            raise ValueError(what)
        return self

    def impossible(self, config: dict[str, Any]) -> str:
        """What cannot be in a result of this config, "" if all can."""
        return ""


class _Fit(Form):
    train_loss: list[list[float]]
    train_accuracy: list[list[Share]]
    test_accuracy: list[list[Share]] | None = None
    validation_accuracy: list[list[Share]] | None = None
    affected_steps: ByEpoch
    exact_zeros: dict[str, ByEpoch]
    exact_sixes: dict[str, ByEpoch] = {}
    kinks: dict[str, ByEpoch] = {}
    dead_units: dict[str, ByEpoch] = {}
    always_on_units: dict[str, ByEpoch] = {}
    units: dict[str, PositiveInt] = {}
    relu_calls: dict[str, PositiveInt]
    n_batches: PositiveInt
    seconds: list[NonNegativeFloat]
    diverged_epoch: list[NonNegativeInt | None]

    def impossible(self, config):
        accuracy = f"{config['evaluate_on']}_accuracy"
        if getattr(self, accuracy) is None:
            return f"{accuracy} is missing"
        done = [len(losses) for losses in self.train_loss]
        if len(done) != config["n_networks"] or not all(0 < n <= config["epochs"] for n in done):
            return f"{done} epochs of networks, where the config has {config['epochs']}"
        at_most = dict.fromkeys(("exact_zeros", "exact_sixes", "kinks"), self.relu_calls)
        at_most |= {"dead_units": self.units, "always_on_units": self.units}
        counts = {what: getattr(self, what) for what in at_most}
        lists = [self.train_accuracy, getattr(self, accuracy), self.affected_steps]
        lists += [by_epoch for found in counts.values() for by_epoch in found.values()]
        if any([len(own) for own in by_epoch] != done for by_epoch in lists):
            return "some results have another number of epochs than the loss"
        for what, found in counts.items():
            for name, by_epoch in found.items():
                if max(map(max, by_epoch)) > at_most[what].get(name, 0):
                    return f"more {what} than there are in {name}"
        if max(map(max, self.affected_steps)) > self.n_batches:
            return "more affected_steps than mini-batches"
        return "" if self.exact_zeros else "exact_zeros of no activation"


class _Trial(Form):
    lr: PositiveFloat
    epochs: PositiveInt
    validation_accuracy: Share
    diverged: bool


class _Search(Form):
    trials: list[_Trial]
    best: NonNegativeInt

    def impossible(self, config):
        if len(self.trials) != config["n_trials"] or self.best >= len(self.trials):
            return f"{len(self.trials)} trials, the best of them {self.best}"
        accuracies = [trial.validation_accuracy for trial in self.trials]
        if accuracies.index(max(accuracies)) != self.best:
            return f"the best trial is not {self.best}"
        most = config["training"]["epochs"]
        return "too many epochs" if any(trial.epochs > most for trial in self.trials) else ""


class _Estimate(Form):
    n_batches: PositiveInt
    relu_calls: PositiveInt
    screened: list[NonNegativeInt]
    exact_zeros: ByActivation
    affected_chain: list[NonNegativeInt]
    affected_injected: list[NonNegativeInt]
    first_affected_chain: list[NonNegativeInt | None]
    first_affected_injected: list[NonNegativeInt | None]
    relative_difference_chain: list[NonNegativeFloat]
    relative_difference_injected: list[NonNegativeFloat]
    nonfinite_chain: NonNegativeInt
    nonfinite_injected: NonNegativeInt

    def impossible(self, config):
        if len(self.screened) != config["n_networks"] or max(self.screened) > self.n_batches:
            return "screened does not fit the numbers of networks and mini-batches"
        if sum(self.exact_zeros.values()) > self.relu_calls * config["n_networks"]:
            return "more exact_zeros than calls"
        for rule in ("chain", "injected"):
            affected = getattr(self, f"affected_{rule}")
            first = getattr(self, f"first_affected_{rule}")
            if not len(affected) == len(first) == config["n_networks"]:
                return f"affected_{rule} of another number of networks"
            if any(
                (n > 0) != (place is not None) for n, place in zip(affected, first, strict=True)
            ):
                return f"first_affected_{rule} does not fit affected_{rule}"
            if sum(affected) != len(getattr(self, f"relative_difference_{rule}")):
                return f"relative_difference_{rule} does not fit affected_{rule}"
            if any(n > most for n, most in zip(affected, self.screened, strict=True)):
                return f"more affected_{rule} than screened"
            if any(place is not None and place >= self.n_batches for place in first):
                return f"first_affected_{rule} beyond the last mini-batch"
        return ""


class _Zone(_Estimate):
    seen: list[NonNegativeInt]
    structural_zeros: ByActivation
    rounded: list[NonNegativeInt]


class _ZeroCount(Form):
    cumulative_zeros: ByEpoch
    cumulative_calls: ByEpoch
    zeros_by_layer: dict[str, list[NonNegativeInt]]
    final_accuracy: list[Share]
    diverged_epoch: list[NonNegativeInt | None]

    def impossible(self, config):
        if any(not 0 < len(own) <= config["epochs"] for own in self.cumulative_zeros):
            return "another number of epochs than the config's"
        for zeros, calls in zip(self.cumulative_zeros, self.cumulative_calls, strict=False):
            if sorted(zeros) != zeros or any(map(int.__gt__, zeros, calls)):
                return "cumulative_zeros fall, or are more than the calls"
        return ""


class _Forward(Form):
    calls: dict[str, PositiveInt]
    zeros: ByActivation
    structural: ByActivation
    predicted: dict[str, NonNegativeFloat | None] | None

    def impossible(self, config):
        for name, zeros in self.zeros.items():
            if not self.structural.get(name, 0) <= zeros <= self.calls.get(name, 0):
                return f"zeros of {name} do not fit its calls and structural zeros"
        return "" if self.zeros else "zeros of no activation"


class _Linear(Form):
    calls: PositiveInt
    zeros: NonNegativeInt

    def impossible(self, config):
        return "more zeros than calls" if self.zeros > self.calls else ""


class _Kinks(Form):
    hits: ByActivation
    calls: dict[str, PositiveInt]
    largest: NonNegativeFloat

    def impossible(self, config):
        if self.hits.keys() != self.calls.keys():
            return "hits and calls of different kinks"
        many = any(n > self.calls[name] for name, n in self.hits.items())
        return "more hits than calls" if many else ""


class _Pools(Form):
    windows: PositiveInt
    tied_at_zero: NonNegativeInt
    tied_above_zero: NonNegativeInt
    relative_difference: list[NonNegativeFloat]

    def impossible(self, config):
        ties = self.tied_at_zero + self.tied_above_zero
        return "more ties than windows" if ties > self.windows else ""


class _Paired(Form):
    learning_rate: PositiveFloat
    distance: dict[str, list[float]]
    min_abs_preactivation: dict[str, list[float]]
    exact_zeros: dict[str, list[NonNegativeInt]]
    event: dict[str, Any] | None

    def impossible(self, config):
        steps = {len(own) for found in (self.distance, self.exact_zeros) for own in found.values()}
        return "" if len(steps) == 1 and 0 not in steps else "histories of different lengths"


class _Plane(Form):
    event: dict[str, Any] | None
    coordinates: list[float] = []
    plane: list[list[float]] = []
    plane_fp64: list[list[float]] = []

    def impossible(self, config):
        n = len(self.coordinates)
        square = all([len(row) for row in p] == [n] * n for p in (self.plane, self.plane_fp64))
        return "" if square and (n > 0) == (self.event is not None) else "no square plane"


class _Check(Form):
    answer: Annotated[str, Field(min_length=1)]
    summary: dict[str, Any]
    sites: list[dict[str, Any]]
    check_seconds: NonNegativeFloat


class _Speed(Form):
    unit: str
    seconds: dict[str, Annotated[list[PositiveFloat], Field(min_length=1)]]


class _Orders(Form):
    n_batches: PositiveInt
    relu_calls: PositiveInt
    first_zero: list[NonNegativeInt | None]

    def impossible(self, config):
        late = any(n is not None and n >= self.n_batches for n in self.first_zero)
        return "a first_zero beyond the end" if late else ""


class _Trust(Form):
    tried: PositiveInt
    harmless: NonNegativeInt
    refused: NonNegativeInt
    unnamed: NonNegativeInt
    late: NonNegativeInt
    lost: NonNegativeInt
    silent: NonNegativeInt
    outside: NonNegativeInt
    slowest_seconds: NonNegativeFloat
    failures: list[str]

    def impossible(self, config):
        kinds = (self.harmless, self.refused, self.unnamed, self.late)
        found = sum(kinds) + self.lost + self.silent + self.outside
        return "" if found == self.tried else "counts that do not add up"


# By name and version of a study.
FORMS: dict[tuple[str, int], type[Form]] = {
    ("bifurcation.paired_run", 1): _Paired,
    ("bifurcation.weight_plane", 1): _Plane,
    ("kinks.count", 1): _Kinks,
    ("kinks.pool_ties", 1): _Pools,
    ("mechanism.forward_zeros", 1): _Forward,
    ("mechanism.linear_zeros", 1): _Linear,
    ("network.check", 2): _Check,
    ("orders.shares", 1): _Orders,
    ("speed.measure", 1): _Speed,
    ("training.fit", 1): _Fit,
    ("trust.campaign", 1): _Trust,
    ("tuning.search", 2): _Search,
    ("volume.estimate", 1): _Estimate,
    ("zeros.count", 1): _ZeroCount,
    ("zone.first_affected", 1): _Zone,
}
