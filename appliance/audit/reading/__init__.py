"""Collectors: they read this server, change nothing, and are bounded in time, output and number of files.

Programs are asked for their effective configuration; where a file is read, the fact says so.
"""
