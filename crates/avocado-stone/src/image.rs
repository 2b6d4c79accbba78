//! What the partitions of a disk start with.

use std::collections::BTreeSet;

use avocado_manifest::os_bundle::stated_bytes;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::error::StoneError;

/// What a partition starts with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "the name of a file, or a map")]
pub enum StoneImage {
    /// A file that is there: of the runtime, of the project, or of the target's SDK.
    File(String),
    /// One that is made.
    Made(Box<FatImage>),
}

/// An image that is made of files: `build_args.type` is `fat`, the only one that there is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub struct FatImage {
    /// The file that it is.
    pub out: String,
    /// How large it is.
    pub size: Number,
    /// Of the size; bytes unless stated.
    #[serde(default)]
    pub size_unit: Option<String>,
    /// How it is made.
    pub build_args: FatArguments,
}

/// How a FAT file system is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(expecting = "a map")]
pub struct FatArguments {
    /// `fat`.
    r#type: String,
    /// The width of its table; FAT32 unless stated.
    #[serde(default)]
    pub variant: FatVariant,
    /// What is in it.
    #[serde(default)]
    pub files: Vec<FatFile>,
    /// More of that, which an overlay of the manifest adds.
    #[serde(default)]
    pub files_append: Vec<FatFile>,
    /// The name of the volume.
    #[serde(default)]
    pub label: Option<String>,
}

/// The width of the table of a FAT file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FatVariant {
    /// 12 bits.
    #[serde(rename = "FAT12", alias = "fat12")]
    Fat12,
    /// 16 bits.
    #[serde(rename = "FAT16", alias = "fat16")]
    Fat16,
    /// 32 bits.
    #[default]
    #[serde(rename = "FAT32", alias = "fat32")]
    Fat32,
}

impl FatVariant {
    /// In bits.
    pub fn bits(self) -> u8 {
        match self {
            FatVariant::Fat12 => 12,
            FatVariant::Fat16 => 16,
            FatVariant::Fat32 => 32,
        }
    }
}

/// A file of a FAT file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a name, or a map with `in` and `out`")]
pub enum FatFile {
    /// Under its own name.
    Same(String),
    /// Under another one.
    Renamed {
        /// The file to be copied.
        r#in: String,
        /// Where it goes, relative to the file system.
        out: String,
    },
}

impl FatFile {
    /// The file to be copied, as it is looked for.
    pub fn source(&self) -> &str {
        match self {
            FatFile::Same(name) | FatFile::Renamed { r#in: name, .. } => name,
        }
    }

    /// Where it goes, relative to the file system.
    pub fn destination(&self) -> &str {
        match self {
            FatFile::Same(name) | FatFile::Renamed { out: name, .. } => name,
        }
    }
}

impl FatImage {
    /// Its size in bytes; `at` is the way to it in its manifest, for errors.
    ///
    /// # Errors
    /// Where that is none, or no file system has it.
    pub fn size(&self, at: &str) -> Result<u64, StoneError> {
        let unit = self.size_unit.as_deref();
        let size =
            stated_bytes("size", &self.size, unit, None).map_err(|source| StoneError::Disk {
                at: at.to_owned(),
                source,
            })?;
        if size == 0 || size % 1024 != 0 {
            let why = "a file system has whole KiB, and more than none";
            return Err(StoneError::invalid(format!("{at}.size"), why));
        }
        Ok(size)
    }

    /// What is in it.
    pub fn files(&self) -> impl Iterator<Item = &FatFile> {
        let arguments = &self.build_args;
        arguments.files.iter().chain(&arguments.files_append)
    }
}

impl StoneImage {
    /// The name of its file.
    pub fn file(&self) -> &str {
        match self {
            StoneImage::File(name) => name,
            StoneImage::Made(image) => &image.out,
        }
    }

    /// The files that it is made of, as they are looked for; the file that it is.
    pub fn sources(&self) -> Vec<&str> {
        match self {
            StoneImage::File(name) => vec![name],
            StoneImage::Made(image) => image.files().map(FatFile::source).collect(),
        }
    }

    pub(crate) fn check(&self, at: &str) -> Result<(), StoneError> {
        let check_path = |field: &str, path: &str| {
            if is_relative(path) {
                return Ok(());
            }
            let why = format!(
                "`{}` has to be a path without `..` below where it belongs",
                path.escape_debug()
            );
            Err(StoneError::invalid(format!("{at}{field}"), why))
        };
        check_path("", self.file())?;
        let StoneImage::Made(image) = self else {
            return Ok(());
        };
        if image.build_args.r#type != "fat" {
            let why = format!(
                "images of the type `{}` are not known; `fat` is",
                image.build_args.r#type.escape_debug()
            );
            return Err(StoneError::invalid(format!("{at}.build_args.type"), why));
        }
        image.size(at)?;
        let mut there = BTreeSet::new();
        for file in image.files() {
            let field = ".build_args.files";
            check_path(field, file.source())?;
            check_path(field, file.destination())?;
            if !there.insert(file.destination().to_ascii_lowercase()) {
                let why = format!(
                    "two files go to `{}`: FAT knows no upper and lower case",
                    file.destination().escape_debug()
                );
                return Err(StoneError::invalid(format!("{at}{field}"), why));
            }
        }
        match &image.build_args.label {
            Some(label) if !is_label(label) => {
                let why = format!(
                    "`{}` is no name of a FAT volume: it has 1 to {LONGEST_LABEL} letters, digits, `-` \
                     and `_`",
                    label.escape_debug()
                );
                Err(StoneError::invalid(format!("{at}.build_args.label"), why))
            }
            _ => Ok(()),
        }
    }
}

/// The longest name of a FAT volume, in bytes.
const LONGEST_LABEL: usize = 11;

fn is_label(label: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_ ".contains(c);
    (1..=LONGEST_LABEL).contains(&label.len()) && label.chars().all(is_plain)
}

/// Whether a path has nothing that leads out of where it is joined to.
fn is_relative(path: &str) -> bool {
    let mut parts = path.split('/');
    !path.is_empty()
        && !path.contains('\0')
        && parts.all(|part| !part.is_empty() && part != "." && part != "..")
}
