"""s3sync-agent: releases in S3, served whole by nginx on every instance."""

__version__ = "0.1.0"
