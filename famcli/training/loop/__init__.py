"""How a training run goes: steps, losses, several processes, checks, and saved states."""
