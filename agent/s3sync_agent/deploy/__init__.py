"""What CI and operators do: check, publish, promote, roll back, list, prune."""
