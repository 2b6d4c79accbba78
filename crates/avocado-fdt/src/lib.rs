//! A flattened device tree: read, change, write.
