"""``python -m mdlm_core`` is the same program as ``mdlm``."""

from .cli import main

if __name__ == "__main__":
    main()
