"""One file a command of `ragmesh`, and what they share.

    options    flags that several commands have       output   tables, JSON, errors
    settings   flags over the environment             connect  where the mesh is
    signals    stop once, and at once                 board    the control plane's report in Redis
    ingestion  documents in, watched to their end     answers  an answer for people and programs
    model_facts  model_bench  model_gate              what `ragmesh models` computes

Heavy imports stand inside the functions: `ragmesh --help` should not wait for gRPC.
"""
