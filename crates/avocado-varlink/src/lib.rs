//! Varlink over Unix sockets, as UAPI.20 defines it: a service and a client, synchronous and small.
//!
//! - [`wire`] turns bytes into messages and back, without touching a socket.
//! - [`idl`] reads interface definitions and checks parameters against them.
//! - [`server`] serves many connections from one thread and runs calls on a bounded number of
//!   others.
//! - [`client`] calls methods.
//!
//! Protocol upgrades and the passing of file descriptors are not supported.
// Devices run Linux.
#![cfg(target_os = "linux")]

pub mod activation;
pub mod client;
pub mod idl;
pub mod server;
pub mod wire;
