"""One fast training step: worker threads share a batch, on one machine or with MPI on several.

`trainer` takes the step. `shards` divides a batch into shards and adds their gradients. `ranks` sends messages between
processes. `consistency` checks that all processes hold the same state. `npattn.runs` has the training runs, with their
folders and logs.
"""

from npattn.training.ranks import RanksDiffer
from npattn.training.trainer import Trainer

__all__ = ["RanksDiffer", "Trainer"]
