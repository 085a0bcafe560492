"""Settings of the tests of every package."""

from contextlib import suppress

with suppress(ImportError):  # not every environment has it
    from hypothesis import HealthCheck, settings

    # The same examples each time, and no verdict that depends on a busy machine.
    settings.register_profile(
        "mdlm",
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("mdlm")
