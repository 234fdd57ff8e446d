"""`python -m kvorum.ctl` is kvorumctl."""

from kvorum.ctl.program import main

main()
