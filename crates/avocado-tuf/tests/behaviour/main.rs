//! The writer and the client together, through what the crate offers to others.

mod attacks;
mod clock;
mod download;
mod interop;
mod legacy;
mod network;
mod older;
mod publish;
mod python;
mod reset;
mod sizes;
mod stop;
mod support;
mod wire;
mod workflow;
