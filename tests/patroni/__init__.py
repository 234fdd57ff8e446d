"""PostgreSQL with Patroni on a store of ours: a failover to look at, Patroni's own features, and what a store's
troubles must not do to PostgreSQL: `make example-patroni`, `make e2e-patroni`."""
