"""Recovery: runs whose process stops or dies go on in another one, or end."""
