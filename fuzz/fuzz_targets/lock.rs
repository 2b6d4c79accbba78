//! The lock file: what is read is written in one way only, and nothing of it is lost.
#![no_main]

use std::fs;

use avocado_fuzz::{scratch, told};
use avocado_project::LockFile;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(members) => members.values().all(is_exact),
        _ => true,
    }
}

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
    // The JSON reader takes a number that is no integer of 64 bits only nearly. The lock file has
    // none of its own, so this is about keys that a later version may bring.
    if serde_json::from_slice(bytes).is_ok_and(|value| is_exact(&value)) {
        assert!(!again.save().unwrap(), "an equal file is not written again");
        assert_eq!(fs::read(&path).unwrap(), written);
    }
});
