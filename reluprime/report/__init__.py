"""The report: its pages, what is missing on them, and the verdicts."""

import warnings

from tqdm import TqdmWarning

# Optuna, which the pages import, asks tqdm for a widget; a report has none, and its notebooks must
# print nothing. It asks as it is imported, so this comes before.
warnings.filterwarnings("ignore", "IProgress not found", TqdmWarning)
