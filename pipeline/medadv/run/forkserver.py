"""Preloaded by the process that local workers are forked from: it and they leave signals to the run, from their first moment on.

A signal to the whole process group or job reaches them too, and would otherwise end a shard that the run still grants its grace time.
"""

from medadv.run.signals import ignore_signals

ignore_signals()
