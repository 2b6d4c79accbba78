//! A machine: one QEMU process and the connection to it. `launch` starts one, `adopt` takes one
//! over, `memory` writes its memory to a file and reads it back; `handle` is what all of them give.

mod adopt;
mod connect;
mod handle;
mod launch;
mod memory;

pub use adopt::adopt_machine;
pub use handle::{Machine, RunState};
pub use launch::boot_machine;
pub use memory::{restore_machine, save_memory};
