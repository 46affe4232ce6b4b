"""`s3sync-agent setup`: what this machine needs to serve a site, step by step, and taking it away again."""
