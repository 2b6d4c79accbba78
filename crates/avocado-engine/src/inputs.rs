use std::fmt;

use avocado_manifest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::StampError;

/// The hash of everything that a task consumes: of its inputs' JSON form, in which the order of
/// fields counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputsHash(String);

impl InputsHash {
    /// The hash of `inputs`.
    ///
    /// # Errors
    /// [`StampError::Inputs`] where they have no JSON form: a path that is not UTF-8, say.
    pub fn of(inputs: &impl Serialize) -> Result<Self, StampError> {
        Ok(InputsForm::of(inputs)?.hash)
    }
}

/// Everything that a task consumes, as JSON, and the hash of that.
#[derive(Debug)]
pub(crate) struct InputsForm {
    pub(crate) hash: InputsHash,
    json: Vec<u8>,
}

impl InputsForm {
    pub(crate) fn of(inputs: &impl Serialize) -> Result<Self, StampError> {
        let json = serde_json::to_vec(inputs).map_err(StampError::Inputs)?;
        let digest = Digest::of(&json);
        Ok(InputsForm {
            hash: InputsHash(format!("sha256:{digest}")),
            json,
        })
    }

    /// The inputs themselves.
    pub(crate) fn value(&self) -> Result<Value, StampError> {
        serde_json::from_slice(&self.json).map_err(StampError::Inputs)
    }
}

impl fmt::Display for InputsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it is for programs that read a stamp, and for the log.
    #[test]
    fn it_is_shown_as_the_stamp_has_it() {
        let hash = InputsHash::of(&("a", 1)).unwrap();
        let digest = Digest::of(br#"["a",1]"#);
        assert_eq!(hash.to_string(), format!("sha256:{digest}"));
        let written = serde_json::to_string(&hash).unwrap();
        assert_eq!(written, format!("\"{hash}\""));
        assert_ne!(InputsHash::of(&("a", 2)).unwrap(), hash);
    }
}
