use serde::Serialize;

/// What is in the images of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BillOfMaterials {
    /// What it is of.
    pub subject: BillSubject,
    /// Seconds since 1970: `source_date_epoch`.
    pub created: i64,
    /// In the order in which a device has them: the OS, then the extensions by their priority.
    pub images: Vec<ImageContents>,
}

/// A runtime, or one extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BillSubject {
    /// Its name in the project.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The machine that it is for.
    pub target: String,
}

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageRole {
    /// The root file system.
    Rootfs,
    /// The initial RAM file system.
    Initramfs,
    /// The kernel, which is one file.
    Kernel,
    /// An extension.
    Extension,
}

impl ImageRole {
    /// Its name in bills.
    pub fn as_str(self) -> &'static str {
        match self {
            ImageRole::Rootfs => "rootfs",
            ImageRole::Initramfs => "initramfs",
            ImageRole::Kernel => "kernel",
            ImageRole::Extension => "extension",
        }
    }
}

/// An image as one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageComponent {
    /// What it is for.
    pub role: ImageRole,
    /// Of the extension, or of the role: no two images of a bill have the same.
    pub name: String,
    /// Its version, where it has one.
    pub version: Option<String>,
    /// The name of its file.
    pub file_name: String,
    /// In bytes.
    pub size: u64,
    /// As hexadecimal digits.
    pub sha256: String,
    /// As hexadecimal digits.
    pub sha512: String,
}

/// An image with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageContents {
    /// Itself.
    pub image: ImageComponent,
    /// By name.
    pub packages: Vec<PackageComponent>,
    /// By path.
    pub files: Vec<FileComponent>,
}

/// A package in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageComponent {
    /// Its name.
    pub name: String,
    /// Its epoch.
    pub epoch: u32,
    /// Its version.
    pub version: String,
    /// Its release.
    pub release: String,
    /// Its architecture.
    pub arch: String,
    /// An SPDX expression.
    pub licence: Option<String>,
    /// Who made it.
    pub vendor: Option<String>,
    /// The package of the sources that it was made of, with version and release.
    pub source_rpm: Option<String>,
    /// Its home page.
    pub url: Option<String>,
    /// What it is, in a line.
    pub summary: Option<String>,
    /// Of its header, which has the digest of each of its files.
    pub header_sha256: Option<String>,
    /// What it needs of others.
    pub dependencies: Vec<PackageRef>,
    /// Whether everything that it needs is among `dependencies`.
    pub is_complete: bool,
}

impl PackageComponent {
    /// Version and release, with an epoch that is not 0.
    pub fn evr(&self) -> String {
        let (version, release) = (&self.version, &self.release);
        match self.epoch {
            0 => format!("{version}-{release}"),
            epoch => format!("{epoch}:{version}-{release}"),
        }
    }

    /// The name of the package of its sources.
    pub fn source_name(&self) -> Option<&str> {
        let stem = self.source_rpm.as_deref()?.strip_suffix(".rpm")?;
        let (stem, _arch) = stem.rsplit_once('.')?;
        let (stem, _release) = stem.rsplit_once('-')?;
        stem.rsplit_once('-').map(|(name, _version)| name)
    }
}

/// One package of one image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PackageRef {
    /// The name of the image.
    pub image: String,
    /// Name, version, release and architecture, as rpm shows them.
    pub package: String,
}

/// A regular file in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileComponent {
    /// Without a slash at its beginning.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Its permissions.
    pub mode: u32,
    /// As hexadecimal digits.
    pub sha256: String,
    /// As hexadecimal digits.
    pub sha512: String,
    /// Where it comes from.
    pub origin: FileOrigin,
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum FileOrigin {
    /// A package of the image.
    Package {
        /// Name, version, release and architecture.
        package: String,
        /// It has not the bytes that the package brought.
        changed: bool,
    },
    /// The project's overlay.
    Overlay {
        /// The package whose file it replaces.
        replaces: Option<String>,
    },
    /// Scripts of the project: one that compiles, or a hook. Which of several is not known.
    Scripts {
        /// All that ran.
        scripts: Vec<String>,
    },
    /// Scriptlets of packages, while they were installed.
    Scriptlets,
    /// The build itself: release files, accounts, the cache of the dynamic linker.
    Build,
    /// Nothing says.
    Unknown,
}

impl FileOrigin {
    /// Its name in bills.
    pub fn kind(&self) -> &'static str {
        match self {
            FileOrigin::Package { .. } => "package",
            FileOrigin::Overlay { .. } => "overlay",
            FileOrigin::Scripts { .. } => "scripts",
            FileOrigin::Scriptlets => "scriptlets",
            FileOrigin::Build => "build",
            FileOrigin::Unknown => "unknown",
        }
    }
}

impl BillOfMaterials {
    /// Every file, with the image that it is in.
    pub fn files(&self) -> impl Iterator<Item = (&ImageComponent, &FileComponent)> {
        let images = self.images.iter();
        images.flat_map(|image| image.files.iter().map(|file| (&image.image, file)))
    }

    /// The files of which nothing says where they come from.
    pub fn unattributed(&self) -> impl Iterator<Item = (&ImageComponent, &FileComponent)> {
        self.files()
            .filter(|(_, file)| file.origin == FileOrigin::Unknown)
    }

    /// The files of packages that have other bytes than their packages brought.
    pub fn changed(&self) -> impl Iterator<Item = (&ImageComponent, &FileComponent)> {
        self.files()
            .filter(|(_, file)| matches!(file.origin, FileOrigin::Package { changed: true, .. }))
    }
}
