"""The kernels with their shapes checked, the one that `toolkit.measure` does not import included."""

from jaxtyping import install_import_hook

with install_import_hook("toolkit.metrics", "beartype.beartype"):
    import toolkit.metrics.tokens  # noqa: F401
