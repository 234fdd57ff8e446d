"""This machine as a platform: members are processes, volumes are directories. Linux only."""
