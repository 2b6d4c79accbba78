use serde::{Deserialize, Serialize};

/// A package that is installed, as rpm's database has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledPackage {
    /// `%{NAME}`.
    pub name: String,
    /// `%{EPOCHNUM}`.
    pub epoch: u32,
    /// `%{VERSION}`.
    pub version: String,
    /// `%{RELEASE}`.
    pub release: String,
    /// `%{ARCH}`.
    pub arch: String,
    /// `%{LICENSE}`, in the words of who packaged it.
    pub licence: Option<String>,
    /// `%{VENDOR}`.
    pub vendor: Option<String>,
    /// `%{SOURCERPM}`.
    pub source_rpm: Option<String>,
    /// `%{URL}`.
    pub url: Option<String>,
    /// `%{SUMMARY}`.
    pub summary: Option<String>,
    /// `%{SHA256HEADER}`.
    pub header_sha256: Option<String>,
    /// What it brought.
    pub files: Vec<InstalledFile>,
    /// What it needs: names of packages, of capabilities, and paths.
    pub requires: Vec<String>,
    /// What it is for others: names.
    pub provides: Vec<String>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledFile {
    /// Where it was put.
    pub path: String,
    /// `None` for what is no regular file, or has a digest of another kind.
    pub sha256: Option<String>,
}

impl InstalledPackage {
    /// Its name, version, release and architecture, as rpm shows them.
    pub fn label(&self) -> String {
        let InstalledPackage {
            name,
            version,
            release,
            arch,
            ..
        } = self;
        format!("{name}-{version}-{release}.{arch}")
    }

    /// Whether the two are one package, and not only called the same.
    pub fn is_same(&self, other: &InstalledPackage) -> bool {
        let key = |package: &InstalledPackage| {
            let epoch = package.epoch;
            (package.label(), epoch, package.header_sha256.clone())
        };
        key(self) == key(other)
    }
}
