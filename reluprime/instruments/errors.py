"""What the instruments raise."""


class DataError(OSError):
    """Data that is missing, corrupt, or not what its name says."""
