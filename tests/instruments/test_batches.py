import numpy as np
import pytest
import torch
from torchvision import transforms

from reluprime.instruments import data
from reluprime.instruments.batches import Batches, channel_statistics, generator
from reluprime.instruments.data import Dataset


def images(n, channels=3, size=32, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, size, size), generator=random, dtype=torch.uint8)


@pytest.fixture(scope="module")
def colour():
    """A made-up set whose label is the image's place, so that an image can be traced."""
    return Dataset("made-up", images(50), torch.arange(50), images(20, seed=1), torch.arange(20))


def batches(dataset, **changes):
    return Batches(dataset, **{"dtype": torch.float32, "seeds": [0], "batch_size": 16} | changes)


def whole_epoch(made, epoch=0):
    """-> x and y of the epoch, for each seed in the order of the mini-batches."""
    xs, ys = zip(*made.train(epoch), strict=True)
    return torch.cat(xs, 1), torch.cat(ys, 1)


def test_an_epoch_shows_each_image_once(colour):
    made = batches(colour, seeds=[3, 4])
    sizes = [tuple(x.shape[:2]) for x, _ in made.train(0)]
    assert sizes == [(2, 16), (2, 16), (2, 16), (2, 2)]
    _, y = whole_epoch(made)
    assert [sorted(row.tolist()) for row in y] == [list(range(50))] * 2


def test_the_order_belongs_to_seed_and_epoch(colour):
    first, again = batches(colour, seeds=[3, 4]), batches(colour, seeds=[4])
    orders = [whole_epoch(first, epoch)[1] for epoch in (0, 1)]
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0][0], orders[0][1])
    assert torch.equal(orders[1][1], whole_epoch(again, 1)[1][0])


def test_seeds_and_epochs_do_not_share_generators():
    found = {generator(seed, epoch).initial_seed() for seed in range(5) for epoch in range(300)}
    assert len(found) == 1500
    with pytest.raises(ValueError, match="epoch=100000"):
        generator(0, 100_000)


def test_the_global_random_state_is_left_alone(colour):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    whole_epoch(batches(colour, augment=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_first_n_images_are_trained_on(colour):
    _, y = whole_epoch(batches(colour, n_train=30))
    assert sorted(y[0].tolist()) == list(range(30))


def test_pixels_are_those_of_torchvisions_transforms(colour):
    mean, std = channel_statistics(colour.train_images)
    steps = [transforms.ToTensor(), transforms.Normalize(mean.tolist(), std.tolist())]
    convert = transforms.Compose(steps)
    x, y = whole_epoch(batches(colour))
    for image, place in zip(x[0], y[0], strict=True):
        expected = convert(colour.train_images[place].permute(1, 2, 0).numpy())
        assert torch.equal(image, expected)


@pytest.mark.parametrize("n", [7, 2500])  # below and above one chunk
def test_channel_statistics_against_numpy(n):
    some = images(n, size=8)
    mean, std = channel_statistics(some)
    unit = some.numpy().astype(np.float64) / 255
    assert mean.tolist() == pytest.approx(unit.mean((0, 2, 3)).tolist(), rel=1e-6)
    assert std.tolist() == pytest.approx(unit.std((0, 2, 3)).tolist(), rel=1e-6)


def test_crops_and_flips_against_a_loop(colour):
    """The same draws, applied to one image at a time with numpy."""
    made = batches(colour, augment=True)
    x, y = whole_epoch(made, 2)
    random = generator(0, 2)
    assert y[0].tolist() == torch.randperm(50, generator=random).tolist()
    corners = torch.randint(9, (50, 2), generator=random).tolist()
    flips = torch.randint(2, (50, 1), generator=random).flatten().tolist()
    assert 0 < sum(flips) < 50
    mean, std = (t[:, None, None] for t in channel_statistics(colour.train_images))
    for found, place, (top, left), flip in zip(x[0], y[0].tolist(), corners, flips, strict=True):
        padded = np.pad(colour.train_images[place].numpy(), ((0, 0), (4, 4), (4, 4)))
        cut = padded[:, top : top + 32, left : left + 32]
        cut = torch.from_numpy(np.ascontiguousarray(cut[:, :, ::-1] if flip else cut))
        assert torch.equal(found, (data.unit_images(cut, torch.float32) - mean) / std)


@pytest.mark.parametrize("augment", [False, True])
def test_a_seed_among_others_has_the_bits_of_the_seed_alone(colour, augment):
    both, _ = whole_epoch(batches(colour, seeds=[3, 4], augment=augment), 1)
    for row, seed in zip(both, (3, 4), strict=True):
        alone, _ = whole_epoch(batches(colour, seeds=[seed], augment=augment), 1)
        assert torch.equal(row, alone[0])


@pytest.mark.parametrize("augment", [False, True])
def test_evaluation_is_on_whole_test_images_in_order(augment):
    """Normalised as the training images are, in mini-batches of 500."""
    made_up = Dataset(
        "made-up", images(9, 3, 8), torch.arange(9), images(1200, 3, 8, seed=1), torch.arange(1200)
    )
    parts = list(batches(made_up, seeds=[3, 4], augment=augment).evaluation())
    assert [tuple(x.shape[:2]) for x, _ in parts] == [(1, 500), (1, 500), (1, 200)]
    assert torch.cat([y for _, y in parts], 1)[0].tolist() == list(range(1200))
    mean, std = (t[:, None, None] for t in channel_statistics(made_up.train_images))
    unit = data.unit_images(made_up.test_images, torch.float32)
    assert torch.equal(torch.cat([x for x, _ in parts], 1)[0], (unit - mean) / std)


@pytest.mark.parametrize("n_train", [5, 13])
def test_the_fifth_is_rounded_down(colour, n_train):
    made = batches(colour, n_train=n_train, validation=True)
    assert (made.n_train, made.n_evaluation) == (n_train - n_train // 5, n_train // 5)
    held_out = torch.cat([y for _, y in made.evaluation()], 1)[0].tolist()
    assert held_out == list(range(made.n_train, n_train))


def test_a_validation_split_without_images_raises(colour):
    with pytest.raises(ValueError, match="n_train=4"):
        batches(colour, n_train=4, validation=True)


def test_the_validation_split_is_the_last_fifth_and_not_trained_on(colour):
    made = batches(colour, validation=True)
    assert (made.n_train, made.n_evaluation) == (40, 10)
    _, trained = whole_epoch(made)
    held_out = torch.cat([y for _, y in made.evaluation()], 1)
    assert held_out[0].tolist() == list(range(40, 50))
    assert sorted(trained[0].tolist()) == list(range(40))


def test_statistics_come_from_the_images_that_train(colour):
    made = batches(colour, n_train=30, validation=True)
    mean, _ = channel_statistics(colour.train_images[:24])
    assert torch.equal(made._mean.flatten(), mean)


def test_too_few_images(colour):
    with pytest.raises(ValueError, match=r"n_train=51, but made-up has 50"):
        batches(colour, n_train=51)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_precision_comes_last(colour, dtype):
    single, _ = whole_epoch(batches(colour))
    cast, _ = whole_epoch(batches(colour, dtype=dtype))
    assert torch.equal(cast, single.to(dtype))


def test_grey_images_get_three_channels_and_a_frame():
    grey = images(4, 1, 28)
    made = data.as_rgb_32(Dataset("made-up", grey, torch.arange(4), grey[:2], torch.arange(2)))
    assert made.train_images.shape == (4, 3, 32, 32)
    assert made.test_images.shape == (2, 3, 32, 32)
    for channel in range(3):
        assert torch.equal(made.train_images[:, channel, 2:30, 2:30], grey[:, 0])
    assert int(made.train_images.sum()) == 3 * int(grey.sum())  # the frame is 0


def test_large_colour_images_stay(colour):
    assert torch.equal(data.as_rgb_32(colour).train_images, colour.train_images)
