"""The HTTP service: predictions, recommendations, explanations and new ratings; and the page that shows them.

A request's way: `guard` (limits, token, log, metrics) -> `api` or `page` (routes of one model) -> `batcher` (one thread
that all requests share) -> `served` (one model, ready to answer). `app` holds them together and takes up new models.
"""
