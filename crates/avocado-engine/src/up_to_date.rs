//! One task: whether an earlier result is still good, or another machine's can be had, and the run
//! where neither is.

use std::sync::Arc;

use avocado_events::{Event, Sink, StepStatus, chain};
use serde_json::Value;

use crate::finished::Outcome;
use crate::inputs::InputsForm;
use crate::stamp::ResultFiles;
use crate::{
    Action, FileContent, FoundResult, MadeResult, Needs, SharedResults, StampError, StampStore,
    Task, TaskError, shared,
};

/// A task that is up to date.
pub(crate) struct UpToDate {
    pub(crate) outcome: Outcome,
    pub(crate) by: UpToDateBy,
}

/// How a task came to be up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpToDateBy {
    /// The result of an earlier run is good.
    Stamp,
    /// Another machine made the result.
    SharedResult,
    /// It ran.
    Run,
}

/// Every place that may hold the result of an earlier run.
pub(crate) struct ResultStores<'r> {
    pub(crate) stamps: &'r StampStore,
    /// Where results of other machines are.
    pub(crate) shared: Option<&'r dyn SharedResults>,
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
    stores: &ResultStores<'_>,
    sink: &dyn Sink,
) -> Result<UpToDate, TaskFailure<T::Error>> {
    let stamps = stores.stamps;
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
                by: UpToDateBy::Stamp,
            });
        }
        Err(reason) => reason,
    };
    let environment = match stores.shared {
        Some(_) => environment_of(task, stage, sink)?,
        None => None,
    };
    let action = |form: &InputsForm| {
        let environment = environment.clone()?;
        let hash = form.hash.clone();
        Some(Action::new(stage, &stamp_key, stamps, hash, environment))
    };
    let found = stores.shared.zip(action(&form));
    let found = found.and_then(|(shared, action)| shared.find(&action, sink));
    // What a result of another name left is known by the stamp alone, and that is read once.
    let mut earlier_files = None;
    if let Some(found) = found.and_then(|found| Restorable::new(task, found, stamps, sink)) {
        if stamps.explain {
            explain(stage, "from the cache", sink);
        }
        let earlier_files = earlier_files.insert(stamps.forget(&stamp_key)?);
        if found.restore(task, sink)? {
            let Restorable {
                found,
                output,
                files,
                ..
            } = found;
            for stale in earlier_files.iter().filter(|path| !files.has(path)) {
                stamps.remove(stale)?;
            }
            let digest = found.digest();
            let recorded = task.recorded_inputs(inputs).map_err(TaskFailure::Task)?;
            let recorded = InputsForm::of(&recorded)?;
            stamps.write(&stamp_key, recorded, digest, &output, &files, true)?;
            sink.emit(Event::step(stage, StepStatus::Skipped, "from the cache"));
            let outcome = Outcome {
                digest,
                output: Arc::new(output),
            };
            return Ok(UpToDate {
                outcome,
                by: UpToDateBy::SharedResult,
            });
        }
        // Some of them may have come to their places.
        earlier_files.extend(found.files.own);
    }
    sink.emit(Event::step(stage, StepStatus::Running, reason.to_string()));
    if stamps.explain {
        explain(stage, &stamps.explain(&stamp_key, &form, &reason), sink);
    }
    // Before the results are touched: an interrupted run leaves no stamp.
    let earlier_files = match earlier_files {
        Some(files) => files,
        None => stamps.forget(&stamp_key)?,
    };
    let output = task.run(&inputs, &needs, sink).map_err(TaskFailure::Task)?;
    let files = files_of(task, &output);
    // The result of an earlier version under another name, say: no later run would know of it.
    for stale in earlier_files.iter().filter(|path| !files.has(path)) {
        stamps.remove(stale)?;
    }
    let digest = task.digest(&output);
    // Where the result is of something else, its files are still to be known to the next run.
    let is_good = task.is_made_of(&inputs, &output);
    let recorded = task.recorded_inputs(inputs).map_err(TaskFailure::Task)?;
    let recorded = InputsForm::of(&recorded)?;
    let offered = stores.shared.zip(action(&recorded)).filter(|_| is_good);
    stamps.write(&stamp_key, recorded, digest, &output, &files, is_good)?;
    if let Some((shared, action)) = offered
        && let Some(paths) = shared::relative_paths(&files, &stamps.prefix)
        && let Some(contents) = shared::contents(task.file_digests(&output), &stamps.prefix)
        && let Some(form) = shared::form_of(&output)
    {
        let result = MadeResult {
            output: &form,
            digest,
            paths: &paths,
            contents: &contents,
        };
        shared.offer(&action, result, sink);
    }
    sink.emit(Event::step(stage, StepStatus::Success, ""));
    let outcome = Outcome {
        digest,
        output: Arc::new(output),
    };
    Ok(UpToDate {
        outcome,
        by: UpToDateBy::Run,
    })
}

/// What a result follows from beside its inputs. Where that cannot be found out, the task has no part in
/// what is shared.
fn environment_of<T: Task>(
    task: &T,
    stage: &str,
    sink: &dyn Sink,
) -> Result<Option<Value>, TaskFailure<T::Error>> {
    match task.shared_environment() {
        Ok(environment) => Ok(environment),
        Err(error) if error.is_cancelled() => Err(TaskFailure::Task(error)),
        Err(error) => {
            sink.emit(Event {
                stage: stage.to_owned(),
                ..Event::warning(format!(
                    "the result of `{stage}` is neither taken from the cache nor given to it: {}",
                    chain(&error)
                ))
            });
            Ok(None)
        }
    }
}

fn explain(stage: &str, text: &str, sink: &dyn Sink) {
    sink.emit(Event {
        stage: stage.to_owned(),
        ..Event::info(text)
    });
}

fn files_of<T: Task>(task: &T, output: &T::Output) -> ResultFiles {
    ResultFiles {
        own: task.output_files(output),
        shared: task.shared_files(output),
    }
}

/// A result of another machine that is this task's.
struct Restorable<'f, O> {
    found: Box<dyn FoundResult + 'f>,
    output: O,
    files: ResultFiles,
    contents: Vec<FileContent>,
}

impl<'f, O> Restorable<'f, O> {
    /// `None` where it is of another form, or has other files than the task leaves: who signed it was
    /// another program.
    fn new<T: Task<Output = O>>(
        task: &T,
        found: Box<dyn FoundResult + 'f>,
        stamps: &StampStore,
        sink: &dyn Sink,
    ) -> Option<Self>
    where
        O: serde::de::DeserializeOwned,
    {
        let output = O::deserialize(found.output()).ok();
        let output = output.filter(|output| found.digest() == task.digest(output));
        let whole = output.and_then(|output| {
            let files = files_of(task, &output);
            let paths = shared::relative_paths(&files, &stamps.prefix)?;
            let contents = shared::contents(task.file_digests(&output), &stamps.prefix)?;
            (found.paths() == paths).then_some((output, files, contents))
        });
        let Some((output, files, contents)) = whole else {
            found.refused("it is not what this step makes", sink);
            return None;
        };
        Some(Restorable {
            found,
            output,
            files,
            contents,
        })
    }

    /// Puts the result at its place. False where that failed, which is told: then the task is to run.
    fn restore<T: Task<Output = O>>(
        &self,
        task: &T,
        sink: &dyn Sink,
    ) -> Result<bool, TaskFailure<T::Error>> {
        if !self.found.place(&self.contents, sink) {
            return Ok(false);
        }
        match task.restored(&self.output, sink) {
            Ok(()) => Ok(true),
            Err(error) if error.is_cancelled() => Err(TaskFailure::Task(error)),
            Err(error) => {
                self.found.refused(&chain(&error), sink);
                Ok(false)
            }
        }
    }
}
