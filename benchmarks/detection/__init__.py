"""How well failguard finds failing trainings and leaves healthy ones alone, measured on real programs."""
