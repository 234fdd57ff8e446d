"""The rules, one story a module. A rule wishes for a step, says what it waits for, or lets the next one speak."""
