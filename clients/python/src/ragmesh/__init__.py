"""ragmesh."""
