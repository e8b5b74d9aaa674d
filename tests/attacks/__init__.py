"""The attack corpus: bad bundles named by their defect, each refused with its exit code before a live write.

``corpus`` has the scene and the registry; the modules beside it hold the cases by theme; ``test_attacks``
runs each through the real command line. Run it alone: ``python -m pytest tests/attacks``.
"""
