//! One build at a time works in a project.

use std::fs;
use std::io;

use avocado_events::{Cancel, Event, Sink};
use avocado_fs::{FileLock, LockPlace};

use crate::error::{At as _, BuildError};
use crate::layout::Layout;

/// Waits until no other run works on the same state, and keeps others out until dropped. `None`
/// on a read-only file system, where no run can change anything.
pub(crate) fn lock_project(
    layout: &Layout,
    cancel: &Cancel,
    sink: &dyn Sink,
) -> Result<Option<FileLock>, BuildError> {
    let is_read_only = |kind| kind == io::ErrorKind::ReadOnlyFilesystem;
    match fs::create_dir_all(layout.prefix()) {
        Err(e) if is_read_only(e.kind()) => return Ok(None),
        created => created.at("create", layout.prefix())?,
    }
    let path = layout.lock();
    let place = LockPlace::file(&path);
    let lock = place.lock_while(|attempt| {
        let go_on = !cancel.is_cancelled();
        if go_on && attempt == 0 {
            let mut text = "waiting for another avocado that works on this project".to_owned();
            if let Some(holder) = place.held_by() {
                text += &format!(" ({holder})");
            }
            sink.emit(Event::info(text));
        }
        go_on
    });
    match lock {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(BuildError::Cancelled),
        Err(e) if is_read_only(e.kind()) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_second_run_waits_and_says_so_and_can_be_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), &"t".parse().unwrap());
        let said = Mutex::new(Vec::new());
        let cancel = Cancel::new();
        let sink = |event: Event| {
            said.lock().unwrap().push(event.message);
            cancel.cancel();
        };
        let first = lock_project(&layout, &cancel, &sink).unwrap();
        assert!(first.is_some());
        assert!(said.lock().unwrap().is_empty());
        let second = lock_project(&layout, &cancel, &sink);
        assert!(matches!(second, Err(BuildError::Cancelled)));
        {
            let said = said.lock().unwrap();
            let text = "waiting for another avocado that works on this project (process ";
            let text = format!("{text}{}: ", std::process::id());
            assert_eq!(said.len(), 1);
            assert!(said[0].starts_with(&text), "{said:?}");
        }
        drop(first);
        assert!(lock_project(&layout, &cancel, &sink).unwrap().is_some());
    }
}
