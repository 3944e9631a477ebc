"""`python -m unimsg` is `unimsg`.

Law: nothing else.
"""

from unimsg.cli import main

if __name__ == "__main__":
    main()
