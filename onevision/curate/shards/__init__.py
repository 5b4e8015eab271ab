"""Pictures in shards, described by workers on several machines; the same jobs, one a shard."""
