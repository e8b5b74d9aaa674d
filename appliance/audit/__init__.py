"""Evidence about this server, judged: catalogues x facts -> result -> report.

``facts`` are values, ``collect`` and its neighbours read them, ``checks`` judge them and touch nothing,
``result`` counts, ``report`` writes. Facts judged today can be judged again, elsewhere, by newer checks.
"""
