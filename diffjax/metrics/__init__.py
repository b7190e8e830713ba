"""Metrics of samples.

    weights = load()                                                    # weights.py
    extract = extractor(weights.variables, "pytorch")                   # inception.py
    out = extract(images)                                               # uint8 [N, H, W, C], any N

    moments = Moments.empty(POOL3).add(out.pool3)                       # moments.py; merge() across processes
    frechet_distance(moments, reference.gaussian)                       # frechet.py, reference.py
    fid_name(moments.count), moments.rank_deficient                     # what to call it, and a warning

    kid(real, out.pool3)                                                # kid.py; features of both sets
    precision_recall(real, out.pool3), density_coverage(real, out.pool3)   # manifold.py
    inception_score(out.logits)                                         # inception_score.py
    fid_infinity(out.pool3, reference.gaussian)                         # frechet_error.py
    bootstrap(out.pool3, reference.gaussian)
"""
