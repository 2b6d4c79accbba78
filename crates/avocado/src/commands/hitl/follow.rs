//! Keeping what is exported in line with the sources.

use std::mem;
use std::sync::{Mutex, PoisonError};

use avocado_build::{Cancel, Goal};
use avocado_events::{Event, Sink};
use avocado_manifest::Name;
use avocado_nfs::ExportTree;

use super::HitlServerArgs;
use crate::commands::build_run;
use crate::failure::{Failure, Result};
use crate::session::Session;

/// Builds extensions and copies them to where they are exported.
pub(super) struct Follower<'a> {
    session: &'a Session,
    args: &'a HitlServerArgs,
    cancel: &'a Cancel,
    trees: Vec<(Name, ExportTree)>,
    /// What failed last: a project stays broken until somebody has repaired it.
    told: Option<String>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        session: &'a Session,
        args: &'a HitlServerArgs,
        cancel: &'a Cancel,
        trees: Vec<(Name, ExportTree)>,
    ) -> Self {
        Follower {
            session,
            args,
            cancel,
            trees,
            told: None,
        }
    }

    /// Builds everything for the first time, and says how it goes.
    pub(super) fn begin(&mut self) -> Result<()> {
        let names: Vec<Name> = self.trees.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            self.build(&name, &*self.session.output)?;
        }
        self.copy()
    }

    /// Builds and copies what has changed. What cannot be built stays as it is, and is told once.
    pub(super) fn go_on(&mut self) {
        let names: Vec<Name> = self.trees.iter().map(|(name, _)| name.clone()).collect();
        let output = &self.session.output;
        let mut failed = None;
        for name in names {
            let events = HeldEvents::default();
            match self.build(&name, &events) {
                // Up to date, as nearly always: nothing to talk about.
                Ok(false) => {}
                Ok(true) => events.tell(&**output),
                Err(failure) => {
                    if self.told.as_ref() != Some(&failure.message) {
                        events.tell(&**output);
                    }
                    failed = Some(failure);
                }
            }
        }
        let copied = self.copy();
        let failed = failed.or(copied.err());
        let message = failed.as_ref().map(|failure| failure.message.clone());
        if let Some(failure) =
            failed.filter(|_| self.told != message && !self.cancel.is_cancelled())
        {
            output.emit(Event::warning(format!(
                "{}: what is exported stays as it was",
                line(&failure)
            )));
        }
        self.told = message;
    }

    /// Brings the tree of an extension up to date. Returns whether any step had to run.
    fn build(&self, name: &Name, sink: &dyn Sink) -> Result<bool> {
        let options = build_run::options_now(self.session, &self.args.tools)?;
        let goal = Goal::ExtBuild(Some(name.clone()));
        let report = avocado_build::run(&options, &goal, self.cancel, sink);
        let report = report.map_err(|error| build_run::failure(&error))?;
        Ok(!report.ran.is_empty())
    }

    fn copy(&mut self) -> Result<()> {
        for (name, tree) in &mut self.trees {
            let changed = tree.update().map_err(|e| Failure::from_error(&e))?;
            if changed {
                let message = format!("{name} is exported as it is now");
                self.session.output.emit(Event::info(message));
            }
        }
        Ok(())
    }
}

/// A failure in one line.
fn line(failure: &Failure) -> String {
    let all = std::iter::once(&failure.message).chain(&failure.causes);
    let all: Vec<&str> = all.map(String::as_str).collect();
    all.join(": ")
}

/// What was said, until it is known whether anybody wants to hear it.
#[derive(Default)]
struct HeldEvents(Mutex<Vec<Event>>);

impl HeldEvents {
    fn tell(&self, sink: &dyn Sink) {
        let events = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        events.into_iter().for_each(|event| sink.emit(event));
    }
}

impl Sink for HeldEvents {
    fn emit(&self, event: Event) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
    }
}
