"""How many kinks does it take: trainings whose kinks are widened, an intervention of ours."""
