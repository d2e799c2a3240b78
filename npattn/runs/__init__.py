"""Training runs, each in a folder of its own, and the models that they leave.

`run` trains in a folder and resumes from it, `defaults` begins a run with what suits its task, `settings` is run.json,
`log` is log.tsv, `last_state` is last.npz. `load` gives a trained model, `predict` puts texts through it, `shipped` holds
the models that come with the package. Nothing here prints.
"""

from npattn.runs.defaults import new_run
from npattn.runs.load import load_model, load_run
from npattn.runs.log import read_log
from npattn.runs.prediction import attention_weights, predict
from npattn.runs.run import Progress, Run
from npattn.runs.settings import Settings

__all__ = [
    "Progress", "Run", "Settings", "attention_weights", "load_model", "load_run", "new_run", "predict", "read_log",
]  # fmt: skip
