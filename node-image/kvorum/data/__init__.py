"""`kvorum data`: a member's data directory while no member runs on it. Check it, hash it, and to and from etcd's form.

A directory of etcd's can be checked and hashed, too. Nothing is changed in the directory that is looked at.
"""
