//! What several targets share.

pub mod hostile;

use std::error::Error;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{fs, io};

/// An empty directory of this process, emptied again with each call.
pub fn scratch() -> PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    let place = PLACE.get_or_init(|| {
        let name = format!("avocado-fuzz.{}", std::process::id());
        std::env::temp_dir().join(name)
    });
    match fs::remove_dir_all(place) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => panic!("{}: {e}", place.display()),
        _ => {}
    }
    fs::create_dir_all(place).unwrap();
    place.clone()
}

/// Says everything that an error has to say, as a program would.
pub fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    assert!(!text.is_empty());
    text
}
