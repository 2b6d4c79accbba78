//! The configuration file: read, and changed without touching the rest of it.

use std::path::{Path, PathBuf};

use avocado_fs::LockPlace;
use serde_json::Value;

use super::document::{self, ConfigDocument};
use super::problem::ConfigProblem;
use super::schema::{self, VmConfig};
use crate::error::VmError;
use crate::files;

/// A configuration file as it is, with comments and keys that this program does not know.
#[derive(Debug, Clone)]
pub struct VmConfigFile {
    path: PathBuf,
    document: ConfigDocument,
    config: VmConfig,
}

impl VmConfigFile {
    /// Reads a file. One that is not there is empty.
    ///
    /// # Errors
    /// When it cannot be read, is no YAML, or a known key has a value that it does not take.
    pub fn load(path: &Path) -> Result<Self, VmError> {
        let bytes = files::read(path)?.unwrap_or_default();
        let text = String::from_utf8(bytes)
            .map_err(|_| unusable(path)(ConfigProblem::Syntax("it is not UTF-8".into())))?;
        let document = ConfigDocument::parse(text).map_err(unusable(path))?;
        let config = schema::decode(document.tree()).map_err(unusable(path))?;
        Ok(VmConfigFile {
            path: path.to_owned(),
            document,
            config,
        })
    }

    /// The settings that are known here.
    pub fn config(&self) -> &VmConfig {
        &self.config
    }

    /// The value of a dotted key; none where it is not set.
    pub fn get(&self, key: &str) -> Result<Option<&Value>, VmError> {
        let path = segments(key).map_err(unusable(&self.path))?;
        let mut value = self.document.tree();
        for segment in path {
            match value.get(segment) {
                Some(below) => value = below,
                None => return Ok(None),
            }
        }
        Ok((!value.is_null()).then_some(value))
    }

    /// Everything that is set, as a tree.
    pub fn tree(&self) -> &Value {
        self.document.tree()
    }

    /// Everything that is set, by dotted key.
    pub fn list(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        flatten("", self.document.tree(), &mut found);
        found
    }

    /// Sets a key to what was typed: one word is a number, a boolean, a list or a text, whatever
    /// the key takes; several are a list. Answers with the value that was set.
    pub fn set(path: &Path, key: &str, words: &[String]) -> Result<Value, VmError> {
        change(path, key, |file, segments| {
            let candidates = match words {
                [word] => {
                    let value = document::coerce(word);
                    vec![
                        value.clone(),
                        Value::String(word.clone()),
                        Value::Array(vec![value]),
                        Value::Array(vec![Value::String(word.clone())]),
                    ]
                }
                words => {
                    let coerced = words.iter().map(|word| document::coerce(word)).collect();
                    let texts = words.iter().cloned().map(Value::String).collect();
                    vec![Value::Array(coerced), Value::Array(texts)]
                }
            };
            let mut refusal = None;
            for value in candidates {
                let mut tree = file.document.tree().clone();
                let problem = match document::set_in(&mut tree, segments, &value) {
                    Ok(()) => schema::decode(&tree).err(),
                    Err(problem) => Some(problem),
                };
                match problem {
                    None => {
                        let document = file.document.set(segments, &value)?;
                        return Ok((document, value));
                    }
                    // The first one says best what is wrong with what was typed.
                    Some(problem) => refusal = refusal.or(Some(problem)),
                }
            }
            Err(refusal.unwrap_or_else(|| ConfigProblem::Key(key.to_owned())))
        })
    }

    /// Forgets a key, and the maps above it that hold nothing else. Says whether it was set.
    pub fn unset(path: &Path, key: &str) -> Result<bool, VmError> {
        change(path, key, |file, segments| {
            let mut tree = file.document.tree().clone();
            if !document::remove_in(&mut tree, segments) {
                return Ok((file.document.clone(), false));
            }
            let path = document::alone(file.document.tree(), segments);
            Ok((file.document.remove(path)?, true))
        })
    }
}

/// A change of the file: read, changed, checked and written while no other process of ours does so.
fn change<T>(
    path: &Path,
    key: &str,
    edit: impl FnOnce(&VmConfigFile, &[&str]) -> Result<(ConfigDocument, T), ConfigProblem>,
) -> Result<T, VmError> {
    let segments = segments(key).map_err(unusable(path))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    files::create_dir(dir)?;
    // The directory itself carries this lock; `lock` in it says who owns the VM.
    let _changing = LockPlace::directory(dir).lock().map_err(VmError::from)?;
    let file = VmConfigFile::load(path)?;
    let (document, answer) = edit(&file, &segments).map_err(unusable(path))?;
    schema::decode(document.tree()).map_err(unusable(path))?;
    if document.text() != file.document.text() {
        files::write(path, document.text().as_bytes())?;
    }
    Ok(answer)
}

fn unusable(path: &Path) -> impl Fn(ConfigProblem) -> VmError {
    move |source| VmError::Config {
        path: path.to_owned(),
        source,
    }
}

/// The words of a dotted key.
fn segments(key: &str) -> Result<Vec<&str>, ConfigProblem> {
    let segments: Vec<&str> = key.split('.').collect();
    let word = |word: &&str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    if segments.len() <= 16 && segments.iter().all(word) {
        Ok(segments)
    } else {
        Err(ConfigProblem::Key(key.chars().take(80).collect()))
    }
}

fn flatten<'v>(prefix: &str, value: &'v Value, into: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Object(map) if prefix.is_empty() || !map.is_empty() => {
            for (key, value) in map {
                let key = match prefix {
                    "" => key.clone(),
                    _ => format!("{prefix}.{key}"),
                };
                flatten(&key, value, into);
            }
        }
        Value::Null => {}
        value => into.push((prefix.to_owned(), value)),
    }
}
