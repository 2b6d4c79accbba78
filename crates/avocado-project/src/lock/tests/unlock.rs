//! One part of a lock is taken back.

use super::*;

#[test]
fn one_part_is_unlocked_and_the_rest_stays() {
    use crate::model::PackageScope;
    let directory = tempfile::tempdir().unwrap();
    let target: Name = "t".parse().unwrap();
    let name: Name = "a".parse().unwrap();
    let other: Name = "b".parse().unwrap();
    let all = [
        (Some(PackageScope::Sdk), Sysroot::Sdk("x86_64".into())),
        (Some(PackageScope::Sdk), Sysroot::TargetSysroot),
        (Some(PackageScope::Rootfs), Sysroot::Rootfs),
        (
            Some(PackageScope::Rootfs),
            Sysroot::NamedRootfs(name.clone()),
        ),
        (Some(PackageScope::Initramfs), Sysroot::Initramfs),
        (
            Some(PackageScope::Initramfs),
            Sysroot::NamedInitramfs(name.clone()),
        ),
        (
            Some(PackageScope::Extension(name.clone())),
            Sysroot::Extension(name.clone()),
        ),
        (
            Some(PackageScope::Extension(name.clone())),
            Sysroot::Include(name.clone()),
        ),
        (
            Some(PackageScope::Runtime(name.clone())),
            Sysroot::Runtime(name.clone()),
        ),
        (None, Sysroot::Extension(other.clone())),
        (None, Sysroot::Runtime(other)),
    ];
    let mut lock = LockFile::load(directory.path()).unwrap();
    let locked = lock.target_mut(&target);
    for (_, sysroot) in &all {
        locked.set_packages(sysroot, [("p".to_owned(), "1-r0.x".to_owned())].into());
        locked.set_kernel_version(sysroot, Some("6.12".to_owned()));
    }
    let scopes = all.iter().filter_map(|(scope, _)| scope.clone());
    let whole = locked.clone();
    for scope in scopes {
        let mut locked = whole.clone();
        locked.unlock(&scope);
        for (of, sysroot) in &all {
            let is_kept = of.as_ref() != Some(&scope);
            assert_eq!(
                locked.packages(sysroot).is_some(),
                is_kept,
                "{scope:?} {sysroot:?}"
            );
            assert_eq!(
                locked.kernel_version(sysroot).is_some(),
                is_kept,
                "{scope:?} {sysroot:?}"
            );
        }
    }
}
