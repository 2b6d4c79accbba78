//! The writer and the client together, through what the crate offers to others.

mod attacks;
mod download;
mod legacy;
mod publish;
mod support;
mod workflow;
