"""One training step, fast: in worker threads over shards of a batch, on one machine or on several with MPI.

`trainer` takes the steps, `shards` deals out rows and adds gradients, `ranks` holds the messages between processes,
`consistency` the checks that the processes hold the same. Runs, their folders and their logs are in `npattn.runs`.
"""

from npattn.training.ranks import RanksDiffer
from npattn.training.trainer import Trainer

__all__ = ["RanksDiffer", "Trainer"]
