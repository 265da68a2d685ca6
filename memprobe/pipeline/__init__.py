"""The parts of a run, in the order in which run.py calls them.

Asking: question.py, prepare.py (with control.py), planning.py (with sweep.py, shard.py), manifest.py.
Answering: measure.py, summarise.py (with contrast.py), past.py, dose.py, finish.py. Beside them: forecast.py.
"""
