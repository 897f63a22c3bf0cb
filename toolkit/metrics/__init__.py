"""The metric kernels, a family a file: pure functions of arrays that may be jitted, on their own or together."""
