//! One task: whether an earlier result is still good, and the run where it is not.

use std::sync::Arc;

use avocado_events::{Event, Sink, StepStatus};

use crate::finished::Outcome;
use crate::inputs::InputsForm;
use crate::stamp::ResultFiles;
use crate::{Needs, StampError, StampStore, Task};

/// A task that is up to date.
pub(crate) struct UpToDate {
    pub(crate) outcome: Outcome,
    /// Whether it had to run for that.
    pub(crate) ran: bool,
}

/// Why a task is not up to date.
#[derive(Debug)]
pub(crate) enum TaskFailure<E> {
    Task(E),
    Stamp(StampError),
}

impl<E> From<StampError> for TaskFailure<E> {
    fn from(error: StampError) -> Self {
        TaskFailure::Stamp(error)
    }
}

/// The earlier result of a task, if it is still good; else why it is not. Nothing is run or changed.
pub(crate) fn check<T: Task>(
    task: &T,
    needs: &Needs<'_>,
    stamps: &StampStore,
) -> Result<Result<Outcome, String>, TaskFailure<T::Error>> {
    let stamp_key = task.stamp_key();
    let inputs = task.inputs(needs).map_err(TaskFailure::Task)?;
    let form = InputsForm::of(&inputs)?;
    Ok(match stamps.read::<T::Output>(&stamp_key, &form) {
        Ok(earlier) => Ok(Outcome {
            digest: earlier.digest,
            output: Arc::new(earlier.output),
        }),
        Err(reason) => Err(stamps.explain(&stamp_key, &form, &reason)),
    })
}

pub(crate) fn bring_up_to_date<T: Task>(
    task: &T,
    stage: &str,
    needs: Needs<'_>,
    stamps: &StampStore,
    sink: &dyn Sink,
) -> Result<UpToDate, TaskFailure<T::Error>> {
    let stamp_key = task.stamp_key();
    let inputs = task.inputs(&needs).map_err(TaskFailure::Task)?;
    // Every place that may hold the result of an earlier run is asked here, between the inputs
    // and the run.
    let form = InputsForm::of(&inputs)?;
    let reason = match stamps.read::<T::Output>(&stamp_key, &form) {
        Ok(earlier) => {
            sink.emit(Event::step(stage, StepStatus::Skipped, "up to date"));
            let outcome = Outcome {
                digest: earlier.digest,
                output: Arc::new(earlier.output),
            };
            return Ok(UpToDate {
                outcome,
                ran: false,
            });
        }
        Err(reason) => reason,
    };
    sink.emit(Event::step(stage, StepStatus::Running, reason.to_string()));
    if stamps.explain {
        sink.emit(Event {
            stage: stage.to_owned(),
            ..Event::info(stamps.explain(&stamp_key, &form, &reason))
        });
    }
    // Before the results are touched: an interrupted run leaves no stamp.
    let earlier_files = stamps.forget(&stamp_key)?;
    let output = task.run(&inputs, &needs, sink).map_err(TaskFailure::Task)?;
    let files = ResultFiles {
        own: task.output_files(&output),
        shared: task.shared_files(&output),
    };
    // The result of an earlier version under another name, say: no later run would know of it.
    for stale in earlier_files.iter().filter(|path| !files.has(path)) {
        avocado_fs::remove_tree(stale).map_err(StampError::from)?;
    }
    let digest = task.digest(&output);
    let recorded = task.recorded_inputs(inputs).map_err(TaskFailure::Task)?;
    stamps.write(
        &stamp_key,
        InputsForm::of(&recorded)?,
        digest,
        &output,
        &files,
    )?;
    sink.emit(Event::step(stage, StepStatus::Success, ""));
    let outcome = Outcome {
        digest,
        output: Arc::new(output),
    };
    Ok(UpToDate { outcome, ran: true })
}
