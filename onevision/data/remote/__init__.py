"""Shards in object stores and on the hub: found by address, kept in a bounded cache, fetched ahead.

store     an address -> the store behind it, and its problems as lines
shard     a file of a store: address, size, version
listing   an address, a brace list, a pattern or a folder -> shards
fetch     a shard -> its bytes, tried again if need be, refused if it has changed
cache     a shard -> a file on this disk, for as long as it is read
ahead     packs to come -> their shards, fetched before they are read
traffic   the order of samples -> what it makes the cache fetch
"""
