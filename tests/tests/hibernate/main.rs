//! The supervisor of a VM with a real QEMU and a small guest: sleeping and waking at random
//! moments, kills in every state, and what others do meanwhile.

#![cfg(target_os = "linux")]

mod arm64;
mod clock;
mod crowd;
mod docker_directories;
mod forwards;
mod given_back;
mod harness;
mod kept_awake;
mod kills;
mod others;
mod peers;
mod processes;
mod reboots;
mod released;
mod settings;
mod sleeping;
mod trouble;
mod tunnel;
