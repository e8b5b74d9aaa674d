"""Fuzzers for every parser that sees bytes from a medium.

``targets`` says what must hold of any bytes; ``test_fuzz`` asks it of bytes that hypothesis makes, bounded in
`make test`; ``python -m tests.fuzz TARGET`` lets atheris search, guided by coverage (`make fuzz`). Inputs
that found something are kept in ``corpus/TARGET/``, and asked again by every run.

The server itself parses nothing else from a medium: OCI manifests are podman's matter, ``Packages`` and .deb
files apt's, after their digests were found to be signed.
"""
