use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is in an image, as it was read from it. Paths have no slash at their beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInventory {
    /// Its regular files, by path.
    pub files: Vec<InventoryFile>,
    /// Its symbolic links, with what they name.
    pub links: BTreeMap<String, String>,
}

/// A regular file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryFile {
    /// Where it is.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Its permissions.
    pub mode: u32,
    /// As hexadecimal digits.
    pub sha256: String,
    /// As hexadecimal digits.
    pub sha512: String,
}

/// How many links may lead to a file, as for Linux.
const MOST_LINKS: usize = 40;

impl ImageInventory {
    /// Where a path leads, whose directories may be links: `lib/a` is `usr/lib/a` where `lib` is a
    /// link. The last part is not followed. `None`: in a circle.
    pub fn resolve(&self, path: &str) -> Option<String> {
        let mut left: Vec<String> = parts(path).rev().collect();
        let mut place: Vec<String> = Vec::new();
        let mut followed = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                place.pop();
                continue;
            }
            place.push(part);
            if left.is_empty() {
                break;
            }
            let Some(target) = self.links.get(&place.join("/")) else {
                continue;
            };
            followed += 1;
            if followed > MOST_LINKS {
                return None;
            }
            place.pop();
            if target.starts_with('/') {
                place.clear();
            }
            left.extend(parts(target).rev());
        }
        Some(place.join("/"))
    }
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_links(links: &[(&str, &str)]) -> ImageInventory {
        let links = links.iter();
        ImageInventory {
            files: Vec::new(),
            links: links
                .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_path_leads_through_the_links_of_its_directories() {
        let inventory = with_links(&[
            ("lib", "usr/lib"),
            ("usr/lib64", "/usr/lib"),
            ("a", "b"),
            ("b", "../a"),
            ("usr/lib/x.so", "x.so.1"),
        ]);
        for (path, expected) in [
            ("/lib/x.so", Some("usr/lib/x.so")),
            ("usr/lib64/../bin/x", Some("usr/bin/x")),
            ("./usr//bin/x", Some("usr/bin/x")),
            ("../../etc/x", Some("etc/x")),
            ("lib", Some("lib")),
            ("a/x", None),
            ("", Some("")),
        ] {
            assert_eq!(inventory.resolve(path).as_deref(), expected, "{path}");
        }
    }
}
