"""Shards in, named batches out, in an order that is a function of the seed."""
