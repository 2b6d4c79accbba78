//! The lock file: what is read is written in one way only, and nothing of it is lost.
#![no_main]

use std::fs;

use avocado_fuzz::{scratch, told};
use avocado_project::LockFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let place = scratch();
    let path = place.join("avocado.lock");
    fs::write(&path, bytes).unwrap();
    let mut lock = match LockFile::load(&place) {
        Ok(lock) => lock,
        Err(error) => {
            told(&error);
            assert_eq!(fs::read(&path).unwrap(), bytes, "a failure changes nothing");
            return;
        }
    };
    lock.save().unwrap();
    let written = fs::read(&path).unwrap();
    let mut again = LockFile::load(&place).expect("what we write, we read");
    assert!(!again.save().unwrap(), "an equal file is not written again");
    assert_eq!(fs::read(&path).unwrap(), written);
});
