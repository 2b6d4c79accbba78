//! Extended attributes: those that go into an image, and how they get there.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fs::Metadata;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;
use rustix::process::geteuid;

/// More than the names or a value of a file can have on Linux.
const LONGEST: usize = 1 << 16;

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attribute {
    name: CString,
    value: Vec<u8>,
}

/// How many bytes attributes have: their names and values.
pub(super) fn total_bytes(attributes: &[Attribute]) -> u64 {
    let lengths = attributes
        .iter()
        .map(|attribute| attribute.name.count_bytes() + attribute.value.len());
    lengths.fold(0, |sum, length| sum.saturating_add(length as u64))
}

impl Attribute {
    /// What counts of its value. The system gives capabilities to root of one user namespace, and shows
    /// them with that user to everyone but this root: a step, which is root in its own, sees those that
    /// the user who started it is root for without that, and the same has to count for both.
    fn counted(&self, user: u32) -> Cow<'_, [u8]> {
        let is_capabilities = self.name.to_bytes() == CAPABILITIES;
        match self.value.split_last_chunk() {
            Some((shown, root))
                if is_capabilities
                    && self.value.len() == WITH_ROOT_LENGTH
                    && self.value[REVISION_AT] == WITH_ROOT
                    && u32::from_le_bytes(*root) == user =>
            {
                let mut shown = shown.to_vec();
                shown[REVISION_AT] = WITHOUT_ROOT;
                Cow::Owned(shown)
            }
            _ => Cow::Borrowed(&self.value),
        }
    }
}

/// The revisions of capabilities that differ in that, from `linux/capability.h`: in which byte of the
/// value they are, and how long the one is which ends with the user.
const WITH_ROOT: u8 = 3;
const WITHOUT_ROOT: u8 = 2;
const REVISION_AT: usize = 3;
const WITH_ROOT_LENGTH: usize = 24;

const CAPABILITIES: &[u8] = b"security.capability";

/// What a program is allowed, and what users have for their own purposes. Everything else hangs on
/// the machine that builds (`security.selinux`, access lists of its directories) or only root can
/// give it (`trusted.…`).
fn is_kept(name: &CStr) -> bool {
    let name = name.to_bytes();
    name == CAPABILITIES || name.starts_with(b"user.")
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
    for attribute in attributes {
        let value = attribute.counted(geteuid().as_raw());
        content.extend_from_slice(b" with ");
        content.extend_from_slice(attribute.name.to_bytes_with_nul());
        content.extend_from_slice(&(value.len() as u64).to_le_bytes());
        content.extend_from_slice(&value);
    }
    content
}

/// As one line of text, whatever is in them.
pub(super) fn to_text(attributes: &[Attribute]) -> String {
    let pairs = attributes.iter().map(|attribute| {
        let name = STANDARD.encode(attribute.name.as_bytes());
        format!("{name}:{}", STANDARD.encode(&attribute.value))
    });
    pairs.collect::<Vec<_>>().join(",")
}

/// The attributes of such a text; `None` where it is none, or one of them goes into no image.
pub(super) fn from_text(text: &str) -> Option<Vec<Attribute>> {
    let read = |pair: &str| {
        let (name, value) = pair.split_once(':')?;
        let name = CString::new(STANDARD.decode(name).ok()?).ok()?;
        let value = STANDARD.decode(value).ok()?;
        is_kept(&name).then_some(Attribute { name, value })
    };
    text.split(',').map(read).collect()
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

/// The kinds of attributes of what is at `path`.
pub(super) fn kinds(path: &Path) -> io::Result<AttributeKinds> {
    let mut kinds = AttributeKinds::default();
    for name in names(path)? {
        if is_kept(&name) {
            kinds.kept = true;
        } else {
            kinds.other = Some(name.to_string_lossy().into_owned());
        }
    }
    Ok(kinds)
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
    fn capabilities_count_the_same_for_a_user_and_for_root_of_his_namespace() {
        let of = |revision: u8, permitted: u8, root: &[u8]| {
            let mut value = vec![1, 0, 0, revision, permitted];
            value.resize(20, 0);
            value.extend_from_slice(root);
            Attribute {
                name: c"security.capability".to_owned(),
                value,
            }
        };
        let root = 1000_u32.to_le_bytes();
        let in_step = of(2, 4, &[]);
        let on_host = of(3, 4, &root);
        assert_eq!(on_host.counted(1000), in_step.counted(0));
        assert_eq!(in_step.counted(1000), in_step.counted(0));
        for other in [
            of(3, 5, &root),
            of(3, 4, &1001_u32.to_le_bytes()),
            of(2, 5, &[]),
        ] {
            assert_ne!(other.counted(1000), in_step.counted(0), "{other:?}");
        }
        // What is not of this form counts as it is.
        for length in 0..30 {
            let value = vec![3; length];
            let name = c"security.capability".to_owned();
            let odd = Attribute {
                name,
                value: value.clone(),
            };
            assert_eq!(odd.counted(1000).len(), length);
            let name = c"user.x".to_owned();
            let own = Attribute {
                name,
                value: value.clone(),
            };
            assert_eq!(*own.counted(0x0303_0303), value);
        }
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
