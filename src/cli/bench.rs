//! Benchmarks: `cove bench`.
