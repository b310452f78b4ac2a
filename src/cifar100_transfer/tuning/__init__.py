"""Many trainings that answer one question: search, ablation, screening. Works without Kedro.

Trials are judged on validation images; no function here takes test images.
"""
