"""The two commands: parse, call, print. The only place that knows exit codes."""
