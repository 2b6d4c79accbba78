//! What the tools of an image are. An image never changes, so each is asked once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::{BackendError, ToolQuery, remembered};

/// The version of the file's format.
const FORMAT: u32 = 1;

/// What is known of the tools of images.
#[derive(Debug)]
pub(super) struct ImageTools {
    /// What earlier runs were told.
    file: PathBuf,
    /// Whether a tool that is not known is asked.
    pub(super) asks: bool,
    known: Mutex<Option<KnownTools>>,
}

/// Of one image, with the user's arguments for its containers: those of the last run.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KnownTools {
    format: u32,
    place: Vec<String>,
    /// By the command line that asks; nothing for a tool that the image does not have.
    tools: BTreeMap<String, Option<String>>,
}

impl ImageTools {
    /// What they say is remembered in `file`.
    pub(super) fn new(file: PathBuf) -> Self {
        ImageTools {
            file,
            asks: true,
            known: Mutex::new(None),
        }
    }

    /// [`Backend::tool_identity`](crate::Backend::tool_identity), where `ask` finds out.
    pub(super) fn get(
        &self,
        place: &[String],
        query: &ToolQuery,
        ask: impl FnOnce() -> Result<Option<String>, BackendError>,
    ) -> Result<Option<String>, BackendError> {
        // Held while a tool is asked: other steps want to know the same.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(|| remembered::read(&self.file).unwrap_or_default());
        if known.place != place || known.format != FORMAT {
            *known = KnownTools {
                format: FORMAT,
                place: place.to_vec(),
                tools: BTreeMap::new(),
            };
        }
        let question = [&[query.tool], query.arguments].concat().join(" ");
        if let Some(answer) = known.tools.get(&question) {
            return Ok(answer.clone());
        }
        if !self.asks {
            let tool = query.tool;
            return Ok(Some(format!("{tool} of another image than before")));
        }
        let answer = ask()?;
        known.tools.insert(question, answer.clone());
        remembered::write(&self.file, known);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: ToolQuery = ToolQuery {
        tool: "mkthing",
        arguments: &["--version"],
    };

    #[test]
    fn a_tool_of_an_image_is_asked_once_and_again_in_another_image() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tools.json");
        // A new run each time; how often it asked.
        let ask = |image: &str, answer: Option<&str>| {
            let tools = ImageTools::new(file.clone());
            let mut asked = 0;
            let said = tools.get(&[image.to_owned()], &QUERY, || {
                asked += 1;
                Ok(answer.map(ToOwned::to_owned))
            });
            (said.unwrap(), asked)
        };
        let one = Some("mkthing 1".to_owned());
        assert_eq!(ask("a", Some("mkthing 1")), (one.clone(), 1));
        assert_eq!(ask("a", Some("mkthing 2")), (one, 0));
        assert_eq!(ask("b", None), (None, 1));
        assert_eq!(ask("b", Some("mkthing 2")), (None, 0));
        std::fs::write(&file, "{").unwrap();
        assert_eq!(ask("b", Some("mkthing 2")).1, 1);
    }

    #[test]
    fn who_only_looks_asks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut tools = ImageTools::new(directory.path().join("tools.json"));
        tools.asks = false;
        let said = tools.get(&["a".to_owned()], &QUERY, || panic!("a question"));
        assert!(said.unwrap().unwrap().contains("another image"));
    }
}
