"""The peers, one to a module, so that a process loads the one that it measures; each waits as users do.

Every module has a coroutine function `await_tokens(url, order, waiters)` that measures by `measure_waits`.
"""
