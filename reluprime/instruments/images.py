"""Images from files that may hold anything."""

import os

from PIL import Image

from reluprime.instruments.errors import DataError

MOST_PIXELS, LONGEST_SIDE = 100_000_000, 50  # of an image, and times its short side


def open_image(path: str) -> Image.Image:
    """An RGB image of a file.

    Raises DataError for one that cannot be read, and before it is decoded for one that would fill
    the memory, by itself or once its short side is resized.
    """
    try:
        if not os.path.isfile(path):  # a pipe would make it wait
            raise ValueError("no file")
        with Image.open(path) as image:
            short, long = sorted(image.size)
            if short * long > MOST_PIXELS or long > LONGEST_SIDE * short:
                raise ValueError(
                    f"{image.size[0]} x {image.size[1]} pixels are too many or too odd"
                )
            return image.convert("RGB")
    except Exception as error:  # Pillow raises many kinds, and few name the file
        raise DataError(f"{path} is not a readable image: {error}") from error
