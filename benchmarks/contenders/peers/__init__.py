"""The peers, one per module, so that a process loads only the one that it measures.

Each module has a coroutine function `await_tokens(url, order, waiters)` that calls `measure_waits`.
"""
