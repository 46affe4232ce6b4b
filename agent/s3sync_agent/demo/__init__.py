"""The demo: S3, nginx and the agent as real processes on one machine, below a temporary folder."""
