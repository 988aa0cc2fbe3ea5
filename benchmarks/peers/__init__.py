"""What is measured beside ragmesh, each in a process of its own.

A peer is a module here that ends in `serve(load)`: it loads a model, then turns texts into vectors
when asked (`wire.py`). Its packages are pinned in the comment block at its head, in the form of PEP
723, and are installed into an environment that nothing else uses (`environment.py`); a module
without the block runs in ragmesh's own. `process.py` starts one and talks to it.
"""
