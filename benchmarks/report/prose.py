"""What the document says by hand: how to read it, what is compared, and what was tried for the misses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..contenders import ENTRANTS

INTRODUCTION: Final = """
This page is written by `make bench`; edit `benchmarks/_words.py` and run it again.

All sides of a scenario are measured in one run, in turns, each in a fresh process, against the same lean
server in a process of its own on the same machine. The server counts: a side that did less than was asked
is an error, not a number. So the columns beside each other can be compared; the absolute numbers are this
machine's. Where a scenario has several rounds, its numbers are medians, and a ratio is the median of the
rounds' ratios, ours divided by theirs. What is measured in virtual time says so. A target that
is not reached is said so: a benchmark is not a test.

- `make bench` measures everything and writes this page; nothing else should run meanwhile.
- `make bench ARGS="tokens view_many --rounds 5"` measures some, prints them, and leaves this page alone;
  `--write PATH` writes a page of its own, `--json` prints JSON, and `--quick` has one round of everything
  with 100,000 ids.
- `make bench ARGS="tokens_2x"` and `tokens_1x` are ours alone in `tokens`, for a quick look.
- `BENCH_IDS=1000000 make bench` has that many ids wherever something is synced; the targets there then do
  not apply.

The peers are in the extra `bench`; one that is not installed is left out and named.
"""

_WHO = "\n".join(f"- **{entrant.name}**: {entrant.how}" for entrant in ENTRANTS)

ABOUT: Final[Mapping[str, str]] = {
    "tokens": f"""
Everybody waits for 2,000 operations at once, each through its package's own waiter, at one server that
speaks all of their protocols and applies all operations at the same times. Peers ask their own services,
ours asks Batch's:

{_WHO}

*Lag* is the time from when an operation was applied until its waiter knew. *Loop late* is by how much the
event loop missed timers of 5 ms that have nothing to do with the waits: what a web handler in the same
process would feel; *before* is the same in an idle loop beforehand, which is the machine's share. *CPU*
is the client's process alone. A wait is *lost* when it ends by an error although its operation is applied
later. The *busiest 100 ms* show whether first polls come in one burst.

A peer whose event loop cannot keep up asks less often than it means to: read its requests together with its
lag and its lateness.
""",
    "one_token": """
The same, with 200 tasks that wait for the same operation, as the handlers of a web application do. Where
a package has an object that stands for an operation, all of them share it.
""",
    "outage": """
The same with 200 operations; from the third second to the fifth the server answers everything with 503,
as Batch does in maintenance. The lag is that of the waits that were not lost.
Of those that lose none, azure-core tries each request again, and so does google-auth below google-api-core.
""",
    "unknown_rate": """
Thirty-two workers that always have a request, for five minutes of virtual time, before servers that tell
their limit by 429 alone: token buckets that hold one request or a second's worth, a count for each second
or for any second, and GCRA with a quarter of a second's tolerance. The limit has to be found within 30 s;
the share of 429 counts from the first request on. At one request a second five minutes have 300 answers, so
that each 429 is a third of a percent; 30 s alone cannot stay below 3 %.

Where each answer takes another time, requests arrive in another order and in clumps, and a server that
counts each single one, or each second, refuses some of them however they were paced. So the third table has
no target; beside it stands the best steady pace, found by trying all, as if the limit were known.

The last table has several processes with one key, as a fleet of web servers is, each with a client of its
own; answers take 20 ms. A limiter with a burst of a few requests is used up and shared fairly. One that takes
no two requests closer together than its rate says cannot be, by clients that do not know of each other: they
meet by chance, and then as much of the limit is used as of the answers are 429, a tenth for a tenth. To lower
the rate less after a 429 (0.85 and 0.97 of it in place of 0.7 and 0.85), or to take two refusals for news
sooner (after 3 requests in place of 10), brought more 429 and no more than chance in use. There each process
is to be given its share as `Limits.rate`, or one process sends for all.
""",
    "budget": """
10,000 waits begin at once, with 5 requests a second for all of them, in virtual time. Ours is the client as
it is; the peers' algorithms are written after their code and stand in one line for the budget, with the same
margin, and an hour for each wait where they know such a limit. A lost wait lags until all others are
through. The oracle knows when each token is applied, and asks about it once. Where nobody can keep up, all
that asks about each token once before it asks about one again does as well as any that has views alone; only
a list with states, over 2.x, tells more. CPU is the client's and the simulation's.
""",
    "budget_spread": """
The same with two new tokens a second, so that there are two and a half requests for each. Nobody who asks
about one token at a time comes near the oracle then; the last line is the least lag at as many requests by
who knows how long tokens take, but not which token takes how long, and has no line to stand in.
""",
    "least_lag": """
What views alone can reach in `tokens` over 1.x: polls at the best ages, by who knows beforehand that tokens
are applied after 2 to 10 s, any time as likely, and meets no latency.
""",
    "shared_budget": """
A first load of 10 million ids with one request a second for calls and polls together, in virtual time that
stands still while the engine's thread works. Updates are applied after 4 s in the median, one in a hundred
after more than 15 s. The fewest requests are a call and a poll for each chunk, and a look at the audience
before and after; a client keeps 2 % of a rate that it was told as a margin.
""",
    "view_many": "10,000 views, beside a loop of aiohttp and orjson at the same concurrency, and httpx.",
    "upload": """
1,000,000 ids out of a generator, beside the same loop that posts the same bodies, and what the client's
process grows by meanwhile.
""",
    "import": "`import aiobatch` beside `import aiohttp`, in fresh interpreters.",
    "profile": """
Where the CPU of one view goes, in microseconds: each layer of ours over a stand-in for what lies below it,
aiohttp with our edge, and the kernel, over sockets. [What a request costs](explanation/overhead.md) names
the largest costs and what was done about them.
""",
    "sync_load": """
The sync engine as a job, all of its process counted: 10 million ids from Parquet for the first time. The
server answers at once.
""",
    "sync_delta": "The same audience again, from the state of the first load: 1 % in and 1 % out.",
    "sync_nothing": "The same audience again, with nothing changed.",
    "sync_rate": "A first load against a server that allows 5 requests per second, with a client told so.",
    "sync_plan": """
Plans of growing size, 1 % changed, and the memory that they take; the largest size is on paper, along the
line of the two before it.
""",
    "sync_rival": """
A job as people write it, with `csv`, `json` and `requests`: replace by the first chunk, then patch the
others. Its audience has no more than one chunk of members for a while.
""",
}

TRIED: Final[Mapping[str, str]] = {
    "tokens": """
over 1.x each token has to be asked about by itself, and its time is independent of all others'. With the
true distribution known, 2.5 requests a token bring a mean lag of 0.90 s at best, and 0.6 s take 3.5 requests
(`least_lag` below); `PollingPolicy.poll_cost` moves along that line. The list of 1.x names no state. Its
`nb_ids` might serve as a hint, but Batch does not say that it changes when an update is applied, so nothing
rests on it.
""",
    "budget": """
over 1.x everybody is equal, to a thousandth: no order of views is better than asking about each token once
before any is asked about again, and with a long line every loop does so.
""",
    "budget_spread": """
one request in fifty is made after the last token came, when the budget is free and lag is what counts: 30 s
between polls saves them, at nearly twice the lag. In lag nobody can be far ahead: with so few requests
the best fixed intervals are within a tenth of the least lag there is.
""",
    "view_many": """
tried were URLs in parts, prepared headers, no objects for events that nobody reads, a fast path in
admission, workers rather than tasks, one timer for all requests, and an audience read by code written out.
`profile` shows what is left to each layer.
""",
    "upload": """
ids in no order are compared with the chunks under way, so that no id is in two at once. Without that
check plain adds reach 1.0, but chunks would no longer be disjoint. Ids that come in order cost nothing
extra.
""",
}
