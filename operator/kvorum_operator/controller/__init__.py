"""`kvorum-operator run`: which cluster of Kubernetes is looked at when, by which of the operators, and what is told."""
