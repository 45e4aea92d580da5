"""The HTTP service: predictions, recommendations, explanations and new ratings; and the page that shows them.

The way of a request: `admission` (limits, token, log, metrics) -> `api` or `page` (routes of one model) -> `dispatch`
(a thread that answers all waiting requests together) -> `model_cache` (one model and the lists it made). `app` holds
them together and loads a new model when the folder holds one.
"""
