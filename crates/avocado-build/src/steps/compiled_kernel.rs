//! A kernel that the project compiled: which file of a script's is it, and which version has it?

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::BuildError;
use crate::file_digest::FileDigest;
use crate::trees::Tree;

/// A kernel that the project compiled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CompiledKernel {
    /// `None` where the file does not say it.
    pub(super) version: Option<String>,
    /// Below what was compiled for the runtime.
    pub(super) file: PathBuf,
    pub(super) image: FileDigest,
}

/// What the file of a kernel is called, in the order in which it is looked for.
const NAMES: [&str; 6] = [
    "bzImage", "Image", "vmlinuz", "zImage", "uImage", "fitImage",
];

/// The kernel that a script put into the directory of a runtime.
///
/// `build` is where it was compiled.
pub(super) fn find(root: &Tree, script: &str, build: &Path) -> Result<CompiledKernel, BuildError> {
    let names = root.names("")?;
    let is_kernel = |name: &str, start: &str| {
        let rest = name.strip_prefix(start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-') || rest == ".gz")
    };
    let found = NAMES.iter().find_map(|start| {
        let mut names = names.iter().filter_map(|name| name.to_str());
        names.find(|name| is_kernel(name, start))
    });
    let Some(name) = found else {
        return Err(BuildError::Invalid(format!(
            "the script `{script}` put no kernel into AVOCADO_RUNTIME_BUILD_DIR: it is looked for \
             there as {}",
            NAMES.join(", ")
        )));
    };
    let path = root.resolve(name)?;
    let version = match release_of_build(build) {
        Some(version) => Some(version),
        None => File::open(&path).and_then(version_of).ok().flatten(),
    };
    Ok(CompiledKernel {
        version,
        file: name.into(),
        image: FileDigest::of(&path)?,
    })
}

/// What the kernel's own build says.
fn release_of_build(build: &Path) -> Option<String> {
    let file = File::open(build.join("include/config/kernel.release")).ok()?;
    let mut text = String::new();
    file.take(256).read_to_string(&mut text).ok()?;
    usable(text.trim())
}

/// What the file of a kernel says of itself: that of x86 has its version at a known place, and one
/// that is not compressed has what it will say first.
fn version_of(mut file: File) -> io::Result<Option<String>> {
    /// The setup header's signature, and where the place of the version is.
    const HEADER: (u64, &[u8; 4]) = (0x202, b"HdrS");
    const VERSION_AT: u64 = 0x20e;
    const BANNER: &[u8] = b"Linux version ";
    let read = |file: &mut File, at: u64, length: u64| -> io::Result<Vec<u8>> {
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = if read(&mut file, HEADER.0, 4)? == HEADER.1 {
        match read(&mut file, VERSION_AT, 2)?[..] {
            [low, high] => {
                let at = 0x200 + u64::from(u16::from_le_bytes([low, high]));
                read(&mut file, at, 128)?
            }
            _ => return Ok(None),
        }
    } else {
        file.seek(SeekFrom::Start(0))?;
        let mut lines = BufReader::new(file.take(256 << 20)).split(0);
        loop {
            let Some(piece) = lines.next() else {
                return Ok(None);
            };
            let piece = piece?;
            let mut places = piece.windows(BANNER.len());
            // Without a number it is what the banner is made with.
            if let Some(at) = places.position(|part| part == BANNER)
                && let Some(rest) = piece.get(at + BANNER.len()..)
                && rest.first().is_some_and(u8::is_ascii_digit)
            {
                break rest.to_vec();
            }
        }
    };
    let word = text.split(|b| b.is_ascii_whitespace() || *b == 0).next();
    Ok(std::str::from_utf8(word.unwrap_or_default())
        .ok()
        .and_then(usable))
}

/// A version goes into manifests: nothing else than a version may.
fn usable(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
    let is_version = text.starts_with(|c: char| c.is_ascii_digit()) && text.len() <= 64;
    (is_version && text.chars().all(is_part)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(files: &[(&str, &[u8])], release: Option<&str>) -> Result<CompiledKernel, BuildError> {
        let directory = tempfile::tempdir().unwrap();
        let root = Tree::fresh(&directory.path().join("root")).unwrap();
        for (name, bytes) in files {
            fs::write(root.path().join(name), bytes).unwrap();
        }
        let build = directory.path().join("build");
        if let Some(release) = release {
            fs::create_dir_all(build.join("include/config")).unwrap();
            fs::write(build.join("include/config/kernel.release"), release).unwrap();
        }
        find(&root, "kernel-install.sh", &build)
    }

    fn bz_image(version: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
        image
    }

    #[test]
    fn a_kernel_is_found_by_its_name_and_says_its_version() {
        let x86 = bz_image("6.12.69-custom (me@here) #1 SMP");
        let arm = b"\0\0Linux version %s\0\x01Linux version 6.6.1 (me@here)\0";
        for (files, release, file, version) in [
            (
                vec![("bzImage", &x86[..])],
                None,
                "bzImage",
                Some("6.12.69-custom"),
            ),
            (
                vec![("Image", &arm[..]), ("Image.sig", b"")],
                None,
                "Image",
                Some("6.6.1"),
            ),
            (
                vec![("vmlinuz-6.1", b"?"), ("config", b"")],
                None,
                "vmlinuz-6.1",
                None,
            ),
            (
                vec![("zImage", b"")],
                Some("5.4.0\n"),
                "zImage",
                Some("5.4.0"),
            ),
            (vec![("zImage", b"")], Some("5.4\n0"), "zImage", None),
            (
                vec![("Image.gz", b""), ("bzImage", &x86[..])],
                Some("7.0"),
                "bzImage",
                Some("7.0"),
            ),
        ] {
            let kernel = found(&files, release).unwrap();
            assert_eq!(kernel.file, Path::new(file));
            assert_eq!(kernel.version.as_deref(), version, "{file}");
        }
    }

    #[test]
    fn what_is_no_kernel_is_told() {
        for files in [&[][..], &[("System.map", &b""[..]), ("Imagery", b"")]] {
            let said = found(files, None).unwrap_err().to_string();
            assert!(
                said.contains("kernel-install.sh") && said.contains("bzImage"),
                "{said}"
            );
        }
    }

    #[test]
    fn no_bytes_make_a_version_of_what_is_none() {
        for start in 0..40 {
            let mut image = bz_image("6.1");
            image.truncate(0x200 + start);
            let _ = found(&[("bzImage", &image)], None).unwrap();
        }
        for version in ["../../x", "6.1\"", "x6", "", &"6".repeat(65)] {
            let kernel = found(&[("bzImage", &bz_image(version))], None).unwrap();
            assert_eq!(kernel.version, None, "{version}");
        }
    }

    #[test]
    fn a_link_of_a_script_leads_to_nothing_of_the_host() {
        let directory = tempfile::tempdir().unwrap();
        let root = Tree::fresh(&directory.path().join("root")).unwrap();
        root.symlink("/etc/hostname", "bzImage").unwrap();
        find(&root, "s", directory.path()).unwrap_err();
    }
}
