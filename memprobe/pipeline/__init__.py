"""The life of a run, one module for each part; each module imports only those before it.

Asked: suite, manifest, question. Planned: plans, units, planning. Read and checked: models, tokens, prepare.
Scored: score. Summarised: estimate, summarise, measure, finish. From outside: api, worker, reading, dry_run.
The whole order is in `tests/test_layers.py`; docs/design.md follows one command through it.
"""
