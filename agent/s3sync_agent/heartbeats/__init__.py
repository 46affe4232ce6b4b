"""Heartbeats on the instance: what the agent says of itself, and the thread that writes it to S3."""
