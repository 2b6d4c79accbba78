//! Which subvolumes a var partition has: those of its extensions, and those of the runtime.

use std::collections::BTreeMap;
use std::path::Path;

use avocado_project::{Diagnostic, Project, Runtime, SourcePlace, Subvolume};

use crate::images::btrfs::{BtrfsSpec, BtrfsSubvolume};

/// What the file system of the var partition is like.
pub(super) fn spec(project: &Project, runtime: &Runtime) -> BtrfsSpec {
    BtrfsSpec {
        compression: runtime.var.compression.clone(),
        subvolumes: stated(project, runtime).into_iter().map(made).collect(),
        ..BtrfsSpec::default()
    }
}

/// What is wrong with it where no image can be mounted.
pub(super) fn without_mounts(project: &Project, runtime: &Runtime) -> Vec<Diagnostic> {
    let stated = stated(project, runtime);
    stated.into_iter().filter_map(needs_mount).collect()
}

/// Of one path the first extension that has it counts, and the runtime before all.
fn stated<'p>(project: &'p Project, runtime: &'p Runtime) -> Vec<&'p Subvolume> {
    let mut by_path: BTreeMap<&Path, &Subvolume> = BTreeMap::new();
    let members = runtime.extensions.iter();
    let extensions = members.filter_map(|member| project.extension(&member.name));
    for subvolume in extensions.flat_map(|extension| &extension.subvolumes) {
        by_path.entry(&subvolume.path).or_insert(subvolume);
    }
    for subvolume in &runtime.var.subvolumes {
        by_path.insert(&subvolume.path, subvolume);
    }
    let chosen = by_path.into_values();
    chosen.filter(|subvolume| subvolume.enabled).collect()
}

fn made(subvolume: &Subvolume) -> BtrfsSubvolume {
    BtrfsSubvolume {
        path: subvolume.path.value.clone(),
        writable: subvolume.writable,
        compression: subvolume.compression.as_ref().map(|c| c.value.clone()),
        nodatacow: subvolume.nodatacow,
        quota: subvolume.quota.as_ref().map(|quota| quota.value),
    }
}

fn needs_mount(subvolume: &Subvolume) -> Option<Diagnostic> {
    let quota = subvolume.quota.as_ref().map(|q| ("quota", &q.place));
    let compression = subvolume.compression.as_ref();
    let compression = compression.map(|c| ("compression", &c.place));
    let in_place = subvolume.nodatacow;
    let in_place = in_place.then_some(("nodatacow", &subvolume.path.place));
    let (key, place): (&str, &SourcePlace) = quota.or(compression).or(in_place)?;
    let path = subvolume.path.display();
    let message = format!(
        "`{key}` of the subvolume `{path}` takes a mount of the image, which only root can make, \
         and only outside a container"
    );
    let hint = "run this as root with `--backend host`; no deployment needs the var partition: \
                `avocado build --no-var` leaves it out";
    Some(place.error(message).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::test_project::TestProject;

    const PROJECT: &str = "default_target: t
extensions:
  a: {version: 1.0.0, subvolumes: {lib/both: ro, lib/a: {quota: 1G}, lib/off: true}}
  b: {version: 1.0.0, subvolumes: {lib/both: true, lib/b: {nodatacow: true}, lib/over: ro}}
  c: {version: 1.0.0, subvolumes: {lib/c: true}}
runtimes:
  dev:
    extensions: [a, {b: {enabled: false}}]
    var: {compression: zstd, subvolumes: {lib/off: false, lib/over: {compression: none}}}
";

    #[test]
    fn the_first_extension_counts_and_the_runtime_before_all() {
        let project = TestProject::new(PROJECT);
        let project = &project.options.project;
        let spec = spec(project, &project.runtimes[0]);
        assert_eq!(spec.compression, Some("zstd".parse().unwrap()));
        let found = spec.subvolumes.iter().map(|s| {
            let compression = s.compression.as_ref().map(|c| c.as_str());
            let quota = s.quota.map(|quota| quota.to_string());
            format!(
                "{} {} {compression:?} {} {quota:?}",
                s.path.display(),
                s.writable,
                s.nodatacow
            )
        });
        let found: Vec<String> = found.collect();
        assert_eq!(
            found,
            [
                "lib/a true None false Some(\"1G\")",
                "lib/b true None true None",
                "lib/both false None false None",
                "lib/over true Some(\"none\") false None",
            ]
        );
    }

    #[test]
    fn what_takes_a_mount_is_told_at_its_place() {
        let project = TestProject::new(PROJECT);
        let project = &project.options.project;
        let found = without_mounts(project, &project.runtimes[0]);
        let told = found.iter().map(|found| {
            let key = found.message.split('`').nth(1).unwrap();
            format!("{key} {}:{}", found.line, found.column)
        });
        let told: Vec<String> = told.collect();
        assert_eq!(told, ["quota 3:65", "nodatacow 4:52", "compression 9:83"]);
    }
}
