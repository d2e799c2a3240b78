"""Trained models that come with the package: ``npattn predict g2p knight`` answers without any training.

======  ==============================================  ==========  ============================================
name    what it does                                    parameters  trained by
======  ==============================================  ==========  ============================================
g2p     English spelling to phonemes, without stress    1,398,528   ``npattn train g2p --d-model 128 --heads 4
                                                                    --steps 16000 --rate 2e-3 --warmup 800``
======  ==============================================  ==========  ============================================

A folder holds what is left of a run for those who only use it: its ``run.json`` and ``log.tsv``, and ``weights.npz``,
the parameters in half precision, which `npattn.runs.shipped.pack` made of its ``best.npz``. The model computes in float32.
``LICENSE.cmudict`` is that of the CMU Pronouncing Dictionary, which the g2p model was trained on.
"""
