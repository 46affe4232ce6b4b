"""What the status says, as numbers for those who watch many instances: Prometheus and CloudWatch.

`table` is the one list of metrics, `exporters` runs those that are set. Nothing here is imported before it
is asked for: the libraries cost memory.
"""
