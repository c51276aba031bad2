"""Which cells the mechanism studies are asked for."""

from collections import Counter

import torch

from reluprime import records
from reluprime.cli import main
from reluprime.instruments import kernels
from reluprime.mechanism import grids as mechanism_grids
from reluprime.mechanism import study as mechanism
from reluprime.volume import experiments


def test_panels_are_those_of_the_claims():
    for name, (base, widths, batch_sizes) in mechanism_grids.PANELS.items():
        shapes = getattr(experiments, name).shapes
        assert tuple(shapes["width"]) == widths
        assert tuple(shapes["batch_size"]) == batch_sizes
        assert {c["hidden_sizes"][0] for c in shapes["batch_size"].values()} == {base}


def test_each_shape_of_the_panels_once():
    shapes = mechanism_grids.layer_shapes()
    assert len(shapes) == len(set(shapes)) == 32
    assert (16, 784, 256) in shapes  # B21's first layer at its smallest batch size
    assert (256, 1024, 1024) in shapes
    assert (256, 4, 4) in shapes  # M23's later layers at its smallest width
    assert (128, 32, 32) in shapes
    assert all(inputs in (784, outputs) for _, inputs, outputs in shapes)


def test_the_gpu_grid_has_each_shape_in_each_condition():
    grid = mechanism_grids.gpu_grid()
    assert len({config.model_dump_json() for config in grid}) == len(grid) == 32 * 2 * 4
    at = Counter((c.precision, c.arithmetic, c.reduced_precision) for c in grid)
    assert set(at.values()) == {32}
    assert {("fp16", "native", True), ("fp16", "native", False)} < set(at)


def test_the_orders_grid_has_the_same_networks_in_each_form():
    grid = mechanism_grids.orders_grid()
    assert len({config.model_dump_json() for config in grid}) == len(grid)
    seeds = {}
    for c in grid:
        own = seeds.setdefault((c.hidden_sizes, c.linear_form), [])
        own += range(c.seed, c.seed + c.n_networks)
    assert len(seeds) == 3 * 10
    for (hidden_sizes, form), own in seeds.items():
        all_of_them = seeds[hidden_sizes, "native"]
        assert len(set(own)) == len(own)
        assert own == all_of_them[: len(own)]
        number = mechanism_grids.NETWORKS[hidden_sizes][form in kernels.ORDERED]
        assert len(own) == number
    starts = [own for (_, form), own in seeds.items() if form == "native"]
    assert len(set().union(*starts)) == sum(map(len, starts))  # no network in two sizes


def test_products_of_a_library_have_the_papers_mini_batch():
    for c in mechanism_grids.orders_grid():
        rows = 2**16 // c.hidden_sizes[0] if c.linear_form in kernels.ORDERED else 256
        assert c.batch_size == rows


def test_without_a_gpu_it_says_so_in_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "zeros", "--store", str(tmp_path)]) == 2
    assert "no NVIDIA GPU here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_with_a_gpu_the_grid_goes_to_the_store(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        records,
        "sweep",
        lambda study, configs, store, device: asked.update(
            study=study, configs=configs, folder=store.path, device=device
        ),
    )
    assert main(["bench", "zeros", "--store", str(tmp_path)]) == 0
    assert asked == {
        "study": mechanism.linear_zeros,
        "configs": mechanism_grids.gpu_grid(),
        "folder": tmp_path,
        "device": torch.device("cuda"),
    }
