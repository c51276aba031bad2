"""What s does to a training: B21 Section 4, and M23's trainings on MNIST."""

from reluprime.training.config import TrainingConfig, conditions
from reluprime.training.study import fit, trained
from reluprime.training.zeros import ZeroCountConfig, count

__all__ = ["TrainingConfig", "ZeroCountConfig", "conditions", "count", "fit", "trained"]
