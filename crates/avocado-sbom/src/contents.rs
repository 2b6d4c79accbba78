//! What is read again of a bill that somebody wrote.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bill::{BillOfMaterials, ImageComponent};
use crate::cyclonedx::all_packages;
use crate::package_url;

/// What a bill lists: of any image, whoever wrote it. In order, so that two can be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillContents {
    /// Its packages.
    pub packages: BTreeSet<ListedPackage>,
    /// The images and their files, by image and path; an image itself has no path.
    pub files: BTreeMap<(String, String), ListedFile>,
}

/// A package of a bill.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListedPackage {
    /// The image that it is in; empty where the bill has none.
    pub image: String,
    /// Its name.
    pub name: String,
    /// With its epoch, unless that is 0.
    pub version: String,
    /// Its package URL.
    pub purl: Option<String>,
}

/// A file of a bill, or an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedFile {
    /// In bytes, where the bill says it.
    pub size: Option<u64>,
    /// As hexadecimal digits.
    pub sha256: Option<String>,
    /// Of an image, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Of an image: what it is for, in the words of bills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// A bill could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BillReadError {
    /// Not JSON.
    #[error("not JSON: write a bill with `avocado sbom`")]
    Json(#[from] serde_json::Error),
    /// Neither of the formats.
    #[error(
        "neither CycloneDX nor SPDX 3 (as JSON): `bomFormat` is not `CycloneDX`, and there is no `@graph`"
    )]
    Format,
}

impl ListedPackage {
    /// The name of the package of its sources, and its version: those of the package where its URL
    /// does not tell.
    pub fn source(&self) -> (String, String) {
        let purl = self.purl.as_deref().unwrap_or_default();
        let own = || (self.name.clone(), self.version.clone());
        let Some(source) = package_url::qualifier(purl, "upstream") else {
            return own();
        };
        let Some(stem) = source.strip_suffix(".src.rpm") else {
            // As others write it: the name alone, or with a version.
            return match source.split_once('@') {
                Some((name, version)) => (name.to_owned(), version.to_owned()),
                None => (source, self.version.clone()),
            };
        };
        let parts = stem.rsplit_once('-').and_then(|(rest, release)| {
            let (name, version) = rest.rsplit_once('-')?;
            Some((name.to_owned(), version, release))
        });
        let Some((name, version, release)) = parts else {
            return own();
        };
        // The epoch is that of the package: a source package does not tell it.
        let epoch = package_url::qualifier(purl, "epoch");
        let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
        (name, format!("{epoch}{version}-{release}"))
    }
}

impl BillContents {
    /// What a bill that was made here lists.
    pub fn of(bill: &BillOfMaterials) -> Self {
        let packages = all_packages(bill).map(|(of, package)| ListedPackage {
            image: of.image,
            name: package.name.clone(),
            version: package.evr(),
            purl: Some(package_url::of(package)),
        });
        let image = |image: &ImageComponent| {
            let listed = ListedFile {
                size: Some(image.size),
                sha256: Some(image.sha256.clone()),
                version: image.version.clone(),
                role: Some(image.role.as_str().to_owned()),
            };
            ((image.name.clone(), String::new()), listed)
        };
        let files = bill.files().map(|(image, file)| {
            let listed = ListedFile {
                size: Some(file.size),
                sha256: Some(file.sha256.clone()),
                version: None,
                role: None,
            };
            ((image.name.clone(), file.path.clone()), listed)
        });
        BillContents {
            packages: packages.collect(),
            files: bill
                .images
                .iter()
                .map(|i| image(&i.image))
                .chain(files)
                .collect(),
        }
    }

    /// What a bill lists, in either format.
    ///
    /// # Errors
    /// [`BillReadError`].
    pub fn read(bytes: &[u8]) -> Result<Self, BillReadError> {
        let document: Value = serde_json::from_slice(bytes)?;
        let mut contents = BillContents::default();
        if document["bomFormat"] == "CycloneDX" {
            contents.read_cyclonedx(&document["components"], "");
            Ok(contents)
        } else if let Some(graph) = document["@graph"].as_array() {
            contents.read_spdx(graph);
            Ok(contents)
        } else {
            Err(BillReadError::Format)
        }
    }

    fn read_cyclonedx(&mut self, components: &Value, image: &str) {
        for component in components.as_array().into_iter().flatten() {
            let text = |key: &str| component[key].as_str().map(ToOwned::to_owned);
            let name = text("name").unwrap_or_default();
            let property = |name: &str| {
                let properties = component["properties"].as_array().into_iter().flatten();
                let mut found = properties.filter(|property| property["name"] == name);
                found.next().and_then(|property| property["value"].as_str())
            };
            let mut image = image.to_owned();
            let hashes = component["hashes"].as_array().into_iter().flatten();
            let mut hashes = hashes.filter(|hash| hash["alg"] == "SHA-256");
            let listed = ListedFile {
                size: property("avocado:size").and_then(|size| size.parse().ok()),
                sha256: hashes
                    .next()
                    .and_then(|hash| hash["content"].as_str())
                    .map(ToOwned::to_owned),
                version: None,
                role: None,
            };
            let role = property("avocado:image").map(ToOwned::to_owned);
            if role.is_some() {
                image = name;
                let version = text("version");
                let listed = ListedFile {
                    version,
                    role,
                    ..listed
                };
                self.files.insert((image.clone(), String::new()), listed);
            } else if component["type"] == "file" {
                let path = name.trim_start_matches('/').to_owned();
                self.files.insert((image.clone(), path), listed);
            } else {
                self.packages.insert(ListedPackage {
                    image: image.clone(),
                    name,
                    version: text("version").unwrap_or_default(),
                    purl: text("purl"),
                });
            }
            self.read_cyclonedx(&component["components"], &image);
        }
    }

    fn read_spdx(&mut self, graph: &[Value]) {
        // Who contains what, to know which image something is in.
        let mut inside: BTreeMap<&str, &str> = BTreeMap::new();
        let mut images: BTreeMap<&str, &str> = BTreeMap::new();
        for node in graph {
            let text = |key: &str| node[key].as_str();
            if node["relationshipType"] == "contains" {
                let from = text("from").unwrap_or_default();
                let to = node["to"].as_array().into_iter().flatten();
                inside.extend(to.filter_map(Value::as_str).map(|to| (to, from)));
            }
            if let (Some(id), Some(name)) = (text("spdxId"), text("name"))
                && comment_value(node, "avocado:image").is_some()
            {
                images.insert(id, name);
            }
        }
        let image_of = |id: &str| {
            // A file is in a package, which is in an image.
            let mut at = id;
            for _ in 0..4 {
                if let Some(image) = images.get(at) {
                    return (*image).to_owned();
                }
                match inside.get(at) {
                    Some(outer) => at = outer,
                    None => break,
                }
            }
            String::new()
        };
        for node in graph {
            let text = |key: &str| node[key].as_str().map(ToOwned::to_owned);
            let id = node["spdxId"].as_str().unwrap_or_default();
            let hashes = node["verifiedUsing"].as_array().into_iter().flatten();
            let mut hashes = hashes.filter(|hash| hash["algorithm"] == "sha256");
            let listed = ListedFile {
                size: comment_value(node, "avocado:size").and_then(|size| size.parse().ok()),
                sha256: hashes
                    .next()
                    .and_then(|hash| hash["hashValue"].as_str())
                    .map(ToOwned::to_owned),
                version: None,
                role: None,
            };
            let name = text("name").unwrap_or_default();
            match node["type"].as_str() {
                Some("software_File") => {
                    let path = name.trim_start_matches('/').to_owned();
                    self.files.insert((image_of(id), path), listed);
                }
                Some("software_Package") if images.contains_key(id) => {
                    let version = text("software_packageVersion");
                    let role = comment_value(node, "avocado:image");
                    let listed = ListedFile {
                        version,
                        role: role.map(ToOwned::to_owned),
                        ..listed
                    };
                    self.files.insert((name, String::new()), listed);
                }
                Some("software_Package") if node["software_packageUrl"].is_string() => {
                    self.packages.insert(ListedPackage {
                        image: image_of(id),
                        name,
                        version: text("software_packageVersion").unwrap_or_default(),
                        purl: text("software_packageUrl"),
                    });
                }
                _ => {}
            }
        }
    }
}

/// A value that our own bills have in the comment of a node.
fn comment_value<'a>(node: &'a Value, key: &str) -> Option<&'a str> {
    let mut words = node["comment"].as_str()?.split(' ');
    words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_package_is_what_its_url_says() {
        for (purl, expected) in [
            (
                Some("pkg:rpm/avocado/libssl3@3.5-r0?arch=x&upstream=openssl-3.5-r0.src.rpm"),
                ("openssl", "3.5-r0"),
            ),
            (
                Some("pkg:rpm/a/b@1-2?epoch=3&upstream=x-y-1-2.src.rpm"),
                ("x-y", "3:1-2"),
            ),
            (
                Some("pkg:deb/debian/libssl3@3.5-1?upstream=openssl"),
                ("openssl", "9-r9"),
            ),
            (Some("pkg:deb/debian/x@1?upstream=y%402.0"), ("y", "2.0")),
            (Some("pkg:rpm/a/b@1?upstream=odd.src.rpm"), ("own", "9-r9")),
            (None, ("own", "9-r9")),
        ] {
            let package = ListedPackage {
                image: String::new(),
                name: "own".into(),
                version: "9-r9".into(),
                purl: purl.map(Into::into),
            };
            let (name, version) = expected;
            assert_eq!(package.source(), (name.into(), version.into()), "{purl:?}");
        }
    }

    #[test]
    fn what_is_no_bill_is_refused() {
        for text in ["", "{}", "[]", "{\"bomFormat\": \"x\"}", "{\"@graph\": 1}"] {
            BillContents::read(text.as_bytes()).unwrap_err();
        }
        let odd =
            br#"{"@graph": [1, {}, {"type": "software_Package", "software_packageUrl": "x"}]}"#;
        assert_eq!(BillContents::read(odd).unwrap().packages.len(), 1);
    }
}
