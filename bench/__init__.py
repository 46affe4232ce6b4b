"""What publishing, following and idling cost, measured through the installed commands: `make bench`.

A measurement is a generator of figures. It works in a `World`: one S3 server, one generated site, a
scratch folder. `MEASUREMENTS` in `__main__` lists them; contenders (s5cmd, aws, rclone, the classic tools)
become further modules there, on the same server and the same files. Nothing asserts wall-clock time.
"""
