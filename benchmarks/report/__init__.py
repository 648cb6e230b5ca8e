"""Tables, JSON and the page docs/benchmarks.md."""
