use std::error::Error;
use std::path::PathBuf;

use avocado_fs::PathError;

/// What the engine has to know of the errors of the tasks that it runs.
pub trait TaskError: Error + From<UndeclaredNeed> + Send + Sync + 'static {
    /// Whether the task gave up because it was asked to.
    fn is_cancelled(&self) -> bool;
}

/// A run of a graph did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError<E: TaskError> {
    /// A task failed.
    #[error("{stage} failed")]
    Task {
        /// The stage of the task, as in its events.
        stage: String,
        /// Why.
        #[source]
        source: E,
    },
    /// What a task did cannot be recorded.
    #[error("{stage} failed")]
    Stamp {
        /// The stage of the task, as in its events.
        stage: String,
        /// Why.
        #[source]
        source: StampError,
    },
    /// The graph makes no sense, so nothing of it was run.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A stop was asked for.
    #[error("stopped")]
    Stopped,
}

/// A stamp cannot be written or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StampError {
    /// The file of the stamp, or a file of an earlier run that is no longer a result.
    #[error(transparent)]
    File(#[from] PathError),
    /// A link is where a directory was: it would lead elsewhere.
    #[error(
        "{} is a symbolic link, which a hook or a tool that was run must have made: the build would \
         follow it out of its state; remove it",
        .0.display()
    )]
    Link(PathBuf),
    /// The inputs have no JSON form.
    #[error("what the step consumes has no JSON form")]
    Inputs(#[source] serde_json::Error),
    /// The output has no JSON form.
    #[error("what the step made has no JSON form")]
    Output(#[source] serde_json::Error),
}

/// A graph whose tasks cannot all be run: a mistake of the program that made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A task needs one that was not added before it. Ids of another graph do that.
    #[error("`{stage}` needs a task that was not added before it")]
    UnknownNeed {
        /// The stage of the task.
        stage: String,
    },
    /// Two tasks would overwrite each other's stamp.
    #[error("`{first}` and `{second}` have the same stamp")]
    SharedStamp {
        /// The stage of the task that was added first.
        first: String,
        /// The stage of the other one.
        second: String,
    },
}

/// A task reads the result of another one that it did not declare in
/// [`Task::needs`](crate::Task::needs): a mistake of the program. It is an error always, and not
/// only in those runs in which the other one happens to be unfinished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{reader}` reads a result that it does not need: that of {read}")]
pub struct UndeclaredNeed {
    /// The stage of the task that reads.
    pub reader: String,
    /// What it reads.
    pub read: String,
}
