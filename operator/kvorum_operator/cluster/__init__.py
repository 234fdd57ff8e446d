"""What the operator decides and nothing of how it is done: observations in, a step or a hold and a status out."""
