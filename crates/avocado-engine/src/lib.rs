//! A graph of tasks: run in parallel, in the order of their needs, skipped where the result of an
//! earlier run is still good.
//!
//! A [`Task`] says what it consumes ([`Task::inputs`]), what it hands to others ([`Task::Output`])
//! and which files it leaves behind. [`Graph::add`] answers with a [`TaskId`] that carries the
//! type of the output, so that those who need the task read it without a cast. [`Graph::run`]
//! brings every task up to date:
//!
//! 1. A task whose needs are finished tells its inputs.
//! 2. If its stamp was written for the same inputs, by the same version of the program, and the
//!    files that the stamp names are as they were left, the task is skipped and its output comes
//!    from the stamp.
//! 3. Where results are [shared](Graph::share), one that another machine made of the same is put at
//!    its place.
//! 4. Otherwise it runs, and a new stamp is written after its results are in place.
//!
//! The inputs of a task hold the *digests* of what it needs ([`Needs::digest`]), not the fact
//! that something ran: a task that ran again with an equal result does not make those that need
//! it run again (early cut-off).
//!
//! The engine knows nothing of what the tasks are about.
// Stamps tell a changed file by times that Windows does not give in this form; there are no builds.
#![cfg(unix)]

mod difference;
mod error;
mod finished;
mod graph;
mod inputs;
mod node;
mod ready;
mod scheduler;
mod shared;
mod stamp;
mod task;
mod up_to_date;

pub use error::{EngineError, GraphError, StampError, TaskError, UndeclaredNeed};
pub use finished::Finished;
pub use graph::{Graph, OutdatedTask};
pub use inputs::InputsHash;
pub use shared::{Action, FileContent, FoundResult, MadeResult, SharedResults};
pub use stamp::{StampKey, StampStore};
pub use task::{AnyTaskId, Needs, Task, TaskId};
