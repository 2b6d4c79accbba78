//! What a runtime's hook is told of it.

use std::collections::BTreeMap;

use avocado_project::{KernelOrigin, Project, Runtime};

use super::super::runtime_member::RuntimeMember;

/// Beside where things are.
pub(super) fn told(
    project: &Project,
    runtime: &Runtime,
    extensions: &[RuntimeMember],
) -> BTreeMap<String, String> {
    let of_runtime = extensions
        .iter()
        .map(|e| format!("{}-{}", e.name, e.version));
    let list = of_runtime.collect::<Vec<_>>().join(" ");
    let mut told = vec![("AVOCADO_EXT_LIST", list)];
    let release = project.distro.release.clone();
    told.extend(release.map(|release| ("AVOCADO_DISTRO_VERSION", release)));
    let source = match runtime.kernel.as_ref().map(|kernel| &kernel.origin) {
        Some(KernelOrigin::Compiled { .. }) => "compile",
        Some(KernelOrigin::Feed { package, .. }) => {
            let package = package.as_ref().map(|package| package.value.clone());
            told.extend(package.map(|package| ("AVOCADO_KERNEL_PACKAGE", package)));
            "package"
        }
        None => "package",
    };
    told.push(("AVOCADO_KERNEL_SOURCE", source.to_owned()));
    let told = told
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    told.collect()
}

#[cfg(test)]
mod tests {
    use avocado_manifest::Digest;

    use super::*;

    #[test]
    fn a_hook_is_told_what_the_runtime_is_made_of() {
        let project = crate::tests::test_project::TestProject::new(
            "default_target: t
distro: {release: 2024, channel: edge}
kernel: {feed: {version: 6.*}, rt: {package: kernel-rt}, own: {compile: k, install: hook.sh}}
runtimes: {plain: {kernel: feed}, rt: {kernel: rt}, own: {kernel: own}}
",
        );
        let project = &project.options.project;
        let image = serde_json::json!({
            "image": {"sha256": Digest::of(b""), "size": 0}, "var_paths": [],
            "var_content": Digest::of(b""),
        });
        let member = |name: &str, enabled: bool| {
            let member = serde_json::json!({
                "name": name, "version": "1.0.0-rc.1", "enabled": enabled, "sysext": true,
                "confext": false, "enable_services": [], "image": image,
            });
            serde_json::from_value::<RuntimeMember>(member).unwrap()
        };
        let members = [member("b", true), member("a", false)];
        for (runtime, source, package) in [
            (0, "package", None),
            (1, "package", Some("kernel-rt")),
            (2, "compile", None),
        ] {
            let told = told(project, &project.runtimes[runtime], &members);
            let value = |name: &str| told.get(name).map(String::as_str);
            assert_eq!(value("AVOCADO_EXT_LIST"), Some("b-1.0.0-rc.1 a-1.0.0-rc.1"));
            assert_eq!(value("AVOCADO_DISTRO_VERSION"), Some("2024"));
            assert_eq!(value("AVOCADO_KERNEL_SOURCE"), Some(source));
            assert_eq!(value("AVOCADO_KERNEL_PACKAGE"), package);
        }
    }
}
