//! Extended attributes: those that go into an image, and how they get there.

use std::ffi::{CStr, CString};
use std::fs::Metadata;
use std::io;
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

/// More than the names or a value of a file can have on Linux.
const LONGEST: usize = 1 << 16;

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attribute {
    name: CString,
    value: Vec<u8>,
}

/// What a program is allowed, and what users have for their own purposes. Everything else hangs on
/// the machine that builds (`security.selinux`, access lists of its directories) or only root can
/// give it (`trusted.…`).
fn is_kept(name: &CStr) -> bool {
    let name = name.to_bytes();
    name == b"security.capability" || name.starts_with(b"user.")
}

/// The attributes of a file that go into an image, in the order of their names.
pub(crate) fn attributes(path: &Path, metadata: &Metadata) -> io::Result<Vec<Attribute>> {
    let mut attributes = Vec::new();
    if !metadata.is_file() && !metadata.is_dir() {
        return Ok(attributes);
    }
    for name in names(path)? {
        if !is_kept(&name) {
            continue;
        }
        let value = read(|buffer| lgetxattr(path, &*name, buffer))?;
        attributes.push(Attribute { name, value });
    }
    attributes.sort();
    Ok(attributes)
}

/// What counts of these attributes in a digest; nothing where there are none.
pub(crate) fn content_of_attributes(attributes: &[Attribute]) -> Vec<u8> {
    let mut content = Vec::new();
    for Attribute { name, value } in attributes {
        content.extend_from_slice(b" with ");
        content.extend_from_slice(name.to_bytes_with_nul());
        content.extend_from_slice(&(value.len() as u64).to_le_bytes());
        content.extend_from_slice(value);
    }
    content
}

/// Gives them to what is at `path`.
pub(super) fn set_attributes(path: &Path, attributes: &[Attribute]) -> io::Result<()> {
    for Attribute { name, value } in attributes {
        lsetxattr(path, &**name, value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Takes from what is at `path` what no image holds, as far as the system allows that, and says what
/// is left.
pub(super) fn remove_others(path: &Path) -> io::Result<AttributeKinds> {
    let mut left = AttributeKinds::default();
    for name in names(path)? {
        if is_kept(&name) {
            left.kept = true;
            continue;
        }
        match lremovexattr(path, &*name) {
            Ok(()) | Err(Errno::NODATA) => {}
            // Such as the label that SELinux gives every file.
            Err(Errno::ACCESS | Errno::PERM | Errno::OPNOTSUPP) => {
                left.other = Some(name.to_string_lossy().into_owned());
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(left)
}

/// Which kinds of attributes a file has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AttributeKinds {
    /// One that goes into an image.
    pub(super) kept: bool,
    /// The name of one that does not.
    pub(super) other: Option<String>,
}

fn names(path: &Path) -> io::Result<Vec<CString>> {
    let list = match read(|buffer| llistxattr(path, buffer)) {
        Err(e) if e.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Vec::new(),
        other => other?,
    };
    let names = list.split_inclusive(|byte| *byte == 0);
    let names = names.filter_map(|name| CStr::from_bytes_with_nul(name).ok());
    Ok(names.map(ToOwned::to_owned).collect())
}

/// Most files have none, and few have many.
fn read(mut get: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut few = [0; 256];
    match get(&mut few) {
        Err(Errno::RANGE) => {}
        other => return Ok(few[..other?].to_vec()),
    }
    let mut many = vec![0; LONGEST];
    let length = get(&mut many)?;
    many.truncate(length);
    Ok(many)
}

#[cfg(test)]
pub(crate) fn set_attribute(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(lsetxattr(path, name, value, XattrFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::trees::{CopyModes, Tree, copy, digest, settle};

    fn of(path: &Path) -> Vec<(String, Vec<u8>)> {
        let attributes = attributes(path, &fs::symlink_metadata(path).unwrap()).unwrap();
        let pairs = attributes.into_iter().map(|a| (a.name, a.value));
        pairs
            .map(|(name, value)| (name.into_string().unwrap(), value))
            .collect()
    }

    #[test]
    fn attributes_are_copied_and_count() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("d")).unwrap();
        fs::write(from.join("d/f"), "").unwrap();
        let mut seen = vec![digest(&from, CopyModes::Keep).unwrap()];
        let long = vec![b'x'; 3000];
        for (path, name, value) in [
            ("d/f", "user.b", &b""[..]),
            ("d/f", "user.b", b"1"),
            ("d/f", "user.a", &long),
            ("d", "user.a", b"of a directory"),
        ] {
            set_attribute(&from.join(path), name, value).unwrap();
            let now = digest(&from, CopyModes::Checkout(0o644)).unwrap();
            assert!(!seen.contains(&now), "{path} {name}");
            seen.push(now);
        }
        let to = Tree::fresh(&dir.path().join("to")).unwrap();
        copy(&from, &to, Path::new(""), CopyModes::Checkout(0o644)).unwrap();
        let expected = [("user.a".to_owned(), long), ("user.b".into(), b"1".into())];
        assert_eq!(of(&to.shown("d/f")), expected);
        assert_eq!(of(&to.shown("d")).len(), 1);
        assert_eq!(digest(to.path(), CopyModes::Keep).unwrap(), seen[4]);
    }

    #[test]
    fn what_hangs_on_the_machine_goes_into_no_image() {
        if !rustix::process::getuid().is_root() {
            avocado_test_support::skip(
                "what_hangs_on_the_machine_goes_into_no_image",
                "only root can give such an attribute",
            );
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::fresh(&dir.path().join("tree")).unwrap();
        tree.write("f", "", 0o644).unwrap();
        let file = tree.shown("f");
        let before = digest(tree.path(), CopyModes::Keep).unwrap();
        set_attribute(&file, "trusted.x", b"1").unwrap();
        assert_eq!(digest(tree.path(), CopyModes::Keep).unwrap(), before);
        set_attribute(&file, "user.x", b"1").unwrap();
        assert_eq!(names(&file).unwrap().len(), 2);
        let features = settle(&tree, None, 0).unwrap();
        assert_eq!(names(&file).unwrap(), [c"user.x".to_owned()]);
        assert_eq!(features.attributes.as_deref(), Some("/f"));
        assert_eq!(features.other_attribute, None);
    }
}
