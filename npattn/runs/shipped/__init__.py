"""Trained models that come with the package: ``npattn predict g2p knight`` works without any training.

======  ==============================================  ==========  ============================================
name    what it does                                    parameters  trained by
======  ==============================================  ==========  ============================================
g2p     English spelling to phonemes, without stress    1,398,528   ``npattn train g2p --seed 1 --workers 1
                                                                    --validate-every 600``
======  ==============================================  ==========  ============================================

The folder of a model holds ``run.json`` and ``log.tsv`` of its run, and ``weights.npz``: the parameters of its
``best.npz`` in half precision, written by `npattn.runs.shipped.pack`. The model computes in float32.
``LICENSE.cmudict`` is the licence of the CMU Pronouncing Dictionary, the training data of the g2p model.
"""
