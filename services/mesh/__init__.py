"""Who is there, and how to reach them: in this process where possible, else over gRPC."""
