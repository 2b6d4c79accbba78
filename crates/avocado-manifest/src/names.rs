use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use uuid::Uuid;

use crate::Digest;
use crate::parsed_text::parsed;

/// The namespace of every image id (published manifest format).
const IMAGE_NAMESPACE: Uuid = Uuid::from_u128(0x7488fa35_6390_425b_bbbf_b156cfe1eed2);

/// The longest name that still leaves room for `.raw`, a temporary suffix and a file system that
/// allows 255 bytes.
const LONGEST: usize = 200;

/// A text cannot be used as a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a usable {what}: {why}", text.escape_debug())]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
}

/// The one rule for everything that becomes a path component: ASCII letters, digits and
/// `. _ - + ~`, not starting with a dot or a dash, at most [`LONGEST`] bytes.
fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    let fail = |why| {
        Err(NameError {
            what,
            text: text.chars().take(80).collect(),
            why,
        })
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+~".contains(c);
    match text.chars().next() {
        None => fail("it is empty"),
        Some('.' | '-') => fail("it starts with a dot or a dash"),
        _ if text.len() > LONGEST => fail("it is longer than 200 bytes"),
        _ if !text.chars().all(allowed) => {
            fail("only ASCII letters, digits and `. _ - + ~` are allowed")
        }
        _ => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(into = "String")]
        pub struct $type(String);

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed(deserializer)
            }
        }

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check($what, text)?;
                Ok($type(text.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                check($what, &text)?;
                Ok($type(text))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<std::path::Path> for $type {
            fn as_ref(&self) -> &std::path::Path {
                self.0.as_ref()
            }
        }
    };
}

name_type!(
    /// The name or the version of an extension or a runtime.
    Name,
    "name"
);

name_type!(
    /// Identifies a runtime. Ours are the hexadecimal SHA-256 of the manifest without its `id`;
    /// those of older writers are UUIDs. Any safe text is read.
    RuntimeId,
    "runtime id"
);

name_type!(
    /// Identifies the bytes of an image: the UUIDv5, in the published namespace, of the
    /// lower-case hexadecimal SHA-256 of the file.
    ImageId,
    "image id"
);

impl RuntimeId {
    /// The id of a runtime whose canonical manifest without `id` has this digest.
    pub fn from_digest(digest: Digest) -> Self {
        RuntimeId(digest.to_string())
    }

    /// The first eight characters, for people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl ImageId {
    /// The id of the image whose bytes have this digest.
    pub fn from_digest(digest: Digest) -> Self {
        let id = Uuid::new_v5(&IMAGE_NAMESPACE, digest.to_string().as_bytes());
        ImageId(id.hyphenated().to_string())
    }

    /// The file name in the pool and in a repository: `<id>.raw`.
    pub fn file_name(&self) -> String {
        format!("{self}.raw")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn image_id_is_uuid_v5_of_the_hex_digest() {
        // Second opinion: python3 -c 'import uuid,hashlib;
        //   print(uuid.uuid5(uuid.UUID("7488fa35-6390-425b-bbbf-b156cfe1eed2"), hashlib.sha256(b"").hexdigest()))'
        assert_eq!(
            ImageId::from_digest(Digest::of(b"")).as_str(),
            "a9f518d7-c75c-54d5-a3be-192a5d2fa6d7"
        );
    }

    #[test]
    fn hostile_names_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            " a",
            "-rf",
            ".hidden",
            "ａ",
            "e\u{301}",
            "\u{202e}gpj",
            "a:b",
            &"a".repeat(201),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
            assert!(bad.parse::<RuntimeId>().is_err(), "{bad:?}");
            assert!(bad.parse::<ImageId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ordinary_names_are_accepted() {
        for good in ["app", "avocado-ext-dev", "1.0.0-rc.1+b2", "a_b", "2024~1"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    proptest! {
        #[test]
        fn a_name_stays_inside_its_directory(text in "\\PC{0,40}") {
            if let Ok(name) = text.parse::<Name>() {
                let path = std::path::Path::new("/base").join(&name);
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/base")));
                prop_assert_eq!(path.components().count(), 3);
            }
        }
    }
}
