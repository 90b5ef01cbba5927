"""``python -m failguard``."""

from failguard.cli import main

if __name__ == "__main__":
    main()
