"""Reading, decoding, splitting and sharding photo collections."""
