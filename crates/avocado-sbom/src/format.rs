use uuid::Uuid;

use crate::bill::BillOfMaterials;
use crate::{cyclonedx, spdx_document};

/// How a bill is written for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillFormat {
    /// CycloneDX 1.6, as JSON.
    CycloneDx,
    /// SPDX 3.0.1, as JSON-LD.
    Spdx,
}

/// A bill could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BillWriteError {
    /// The time is none that a calendar has.
    #[error(
        "the bill's time, {seconds} seconds since 1970, is out of range: mend source_date_epoch"
    )]
    Time {
        /// What was stated.
        seconds: i64,
        /// Why.
        #[source]
        source: jiff::Error,
    },
    /// It has no JSON form.
    #[error("the bill cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// In which the identifiers of bills are, which follow from what is in them.
const NAMESPACE: Uuid = Uuid::from_u128(0x3f1b_9a2c_64d7_4e0b_9d55_71c2_0a8e_4f36);

impl BillFormat {
    /// The bytes of a bill: the same bill gives the same.
    ///
    /// # Errors
    /// [`BillWriteError`].
    pub fn write(self, bill: &BillOfMaterials) -> Result<Vec<u8>, BillWriteError> {
        let created =
            jiff::Timestamp::from_second(bill.created).map_err(|source| BillWriteError::Time {
                seconds: bill.created,
                source,
            })?;
        let stamp = BillStamp {
            created: created.to_string(),
            id: Uuid::new_v5(&NAMESPACE, &serde_json::to_vec(bill)?),
        };
        let document = match self {
            BillFormat::CycloneDx => cyclonedx::document(bill, &stamp),
            BillFormat::Spdx => spdx_document::document(bill, &stamp),
        };
        let mut bytes = serde_json::to_vec_pretty(&document)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// What tells one bill from another.
pub(crate) struct BillStamp {
    /// RFC 3339, in UTC.
    pub(crate) created: String,
    /// Of its content.
    pub(crate) id: Uuid,
}

/// The version of the program, which is the tool that bills name.
pub(crate) const TOOL_VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bill::{
        BillSubject, FileComponent, FileOrigin, ImageComponent, ImageContents, ImageRole,
        PackageComponent, PackageRef,
    };
    use crate::contents::BillContents;

    fn bill() -> BillOfMaterials {
        let digest = |c: &str, length| c.repeat(length);
        let package = PackageComponent {
            name: "libgreeting++".into(),
            epoch: 2,
            version: "1.0~rc1".into(),
            release: "r0".into(),
            arch: "x86_64".into(),
            licence: Some("MIT AND LicenseRef-ours".into()),
            vendor: None,
            source_rpm: Some("greeting-1.0~rc1-r0.src.rpm".into()),
            url: Some("https://example.org/greeting".into()),
            summary: None,
            header_sha256: Some(digest("c", 64)),
            dependencies: vec![PackageRef {
                image: "rootfs".into(),
                package: "gone-1-r0.x86_64".into(),
            }],
            is_complete: false,
        };
        let file = |path: &str, mode, origin| FileComponent {
            path: path.into(),
            size: 3,
            mode,
            sha256: digest("d", 64),
            sha512: digest("e", 128),
            origin,
        };
        let of_package = FileOrigin::Package {
            package: "libgreeting++-1.0~rc1-r0.x86_64".into(),
            changed: true,
        };
        BillOfMaterials {
            subject: BillSubject {
                name: "dev".into(),
                version: "1".into(),
                target: "qemux86-64".into(),
            },
            created: 1_767_225_600,
            images: vec![ImageContents {
                image: ImageComponent {
                    role: ImageRole::Extension,
                    name: "app".into(),
                    version: Some("1.0.0".into()),
                    file_name: "app-1.0.0.raw".into(),
                    size: 4096,
                    sha256: digest("a", 64),
                    sha512: digest("b", 128),
                },
                packages: vec![package],
                files: vec![
                    file(
                        "etc/app.conf",
                        0o644,
                        FileOrigin::Overlay { replaces: None },
                    ),
                    file("usr/lib/libgreeting.so.1", 0o755, of_package),
                ],
            }],
        }
    }

    #[test]
    fn a_bill_is_read_as_it_was_written_and_written_alike() {
        let bill = bill();
        for format in [BillFormat::CycloneDx, BillFormat::Spdx] {
            let bytes = format.write(&bill).unwrap();
            assert_eq!(bytes, format.write(&bill.clone()).unwrap());
            let read = BillContents::read(&bytes).unwrap();
            assert_eq!(read, BillContents::of(&bill), "{format:?}");
            // Each identifier is there once.
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains("\"vulnerab"), "that is not for a bill");
        }
        let mut other = bill.clone();
        other.images[0].files[0].size += 1;
        let serial = |bill: &BillOfMaterials| {
            let bytes = BillFormat::CycloneDx.write(bill).unwrap();
            let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            document["serialNumber"].clone()
        };
        assert_ne!(serial(&bill), serial(&other));
    }

    #[test]
    fn a_component_has_what_the_profile_asks_for() {
        let bytes = BillFormat::CycloneDx.write(&bill()).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let image = &document["components"][0];
        let package = &image["components"][0];
        assert_eq!(
            package["purl"],
            "pkg:rpm/avocado/libgreeting%2B%2B@1.0~rc1-r0?arch=x86_64&epoch=2\
             &upstream=greeting-1.0~rc1-r0.src.rpm"
        );
        assert_eq!(
            package["cpe"],
            "cpe:2.3:a:greeting:greeting:1.0\\~rc1:*:*:*:*:*:*:*"
        );
        assert_eq!(
            package["licenses"][0]["expression"],
            "MIT AND LicenseRef-ours"
        );
        let file = &package["components"][0];
        assert_eq!(file["hashes"][0]["alg"], "SHA-512");
        let properties = file["properties"].as_array().unwrap();
        for (name, value) in [
            ("bsi:component:filename", "libgreeting.so.1"),
            ("bsi:component:executable", "executable"),
            ("bsi:component:archive", "no archive"),
            ("bsi:component:structured", "unstructured"),
            ("avocado:origin", "package"),
            ("avocado:changed", "true"),
        ] {
            let has = |p: &serde_json::Value| p["name"] == name && p["value"] == value;
            assert!(properties.iter().any(has), "{name} {properties:?}");
        }
        // What it needs of a package that is not in the bill is not there to be pointed at.
        let compositions = document["compositions"].as_array().unwrap();
        let incomplete = compositions
            .iter()
            .find(|c| c["aggregate"] == "incomplete")
            .unwrap();
        assert_eq!(incomplete["dependencies"][0], package["bom-ref"]);
    }
}
