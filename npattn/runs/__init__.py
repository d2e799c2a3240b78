"""Training runs, each in its own folder, and the trained models that they leave.

`run` trains in a folder and resumes from it. `defaults` begins a run with values that suit its task. Three modules read
and write files: `settings` run.json, `log` log.tsv, `last_state` last.npz. `average` is the mean of the parameters at
the last validations. `kinds` has what differs between the models that a run can train, a Transformer and a
LanguageModel. `load` reads a trained model, `trained` is the value that it returns, `prediction` applies a model to
texts, `evaluation` compares it with pairs, `shipped` holds the models that come with the package. Nothing here prints.

>>> import tempfile
>>> from pathlib import Path
>>> from npattn.tasks import load_task
>>> sizes = {"d_model": 8, "n_heads": 2, "layers": 1, "batch_size": 4, "steps": 2, "workers": 1}
>>> with tempfile.TemporaryDirectory() as temporary:
...     path, folder = Path(temporary, "pairs.tsv"), Path(temporary, "run")
...     _ = path.write_text("ab\\tba\\nabc\\tcba\\nbc\\tcb\\nca\\tac\\n")
...     run = new_run(folder, load_task(path), sizes)
...     steps = [progress.step for progress in run.train()]
...     log = read_log(folder)
...     model, codec, description = load_run(folder)      # the best model of the run
>>> steps, log["step"], description["settings"]["batch_size"]
([1, 2], [1.0, 2.0], 4)
>>> len(predict(model, codec, ["ab", "cb"]))
2
"""

from npattn.runs.defaults import new_run
from npattn.runs.evaluation import Evaluation, Mistake, evaluate
from npattn.runs.load import TextModel, load_model, load_run, load_text_model
from npattn.runs.log import read_log
from npattn.runs.prediction import Prediction, Step, attention_weights, predict, probabilities
from npattn.runs.run import Progress, Run
from npattn.runs.settings import Settings
from npattn.runs.trained import TrainedModel

__all__ = [
    "Evaluation", "Mistake", "Prediction", "Progress", "Run", "Settings", "Step", "TextModel", "TrainedModel",
    "attention_weights", "evaluate", "load_model", "load_run", "load_text_model", "new_run", "predict", "probabilities",
    "read_log",
]  # fmt: skip
