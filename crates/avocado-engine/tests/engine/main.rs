//! The engine, with tasks of a few lines.

mod fakes;

mod cancel;
mod failure;
mod from_cache;
mod graph;
mod order;
mod outputs;
mod parallel;
mod shared;
mod stamps;
