"""Nodes on a Ray cluster: Ray Serve places and supervises, requests do not pass through it.

    controller  the process that `ragmesh up --ray` runs: connects, deploys, rolls, sweeps, stops
    cluster     what it says to Ray, in calls that end within a time
    replica     what Serve runs: starts or adopts one node, and keeps it
    node        one node as its keeper sees it: start, health, queue, drain, kill
    records     which nodes of a deployment live on a machine, and who keeps them
    detach      the few lines that let a node outlive the worker that starts it
    sweep       ends the nodes of a machine that nobody keeps
    head        what a Ray of our own is started without
    policy      how many nodes a queue needs

The only place that imports ray. Who keeps a node may come and go; the node serves as long as it
holds its lease, and ends when it is told to: by its keeper, or by a sweep.
"""
