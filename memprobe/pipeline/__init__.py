"""The stages of a run, one module for each part; each module imports only those before it.

Question: suite, manifest, question. Plan: plans, units, planning. Reading, checks: models, tokens, prepare.
Scoring: score. Summary: estimate, summarise, measure, finish. Entry points: api, worker, reading, dry_run.
The whole order is in `tests/test_layers.py`; docs/design.md follows one command through it.
"""
