//! What packages say of their files that no image of ours holds: capabilities, and owners other than
//! root.

use std::path::PathBuf;

use avocado_project::PackageHeaders;

use crate::trees::list_of;

/// What rpm is asked of every file.
pub(crate) const QUERY: &str =
    "[%{=NAME}\\t%{FILECAPS}\\t%{FILEUSERNAME}:%{FILEGROUPNAME}\\t%{FILENAMES}\\n]";

/// What rpm writes for what a package does not have.
const NONE: &str = "(none)";

/// What there is to tell of the files of `packages`, from rpm's answer to [`QUERY`].
pub(crate) fn told(text: &str, packages: &PackageHeaders) -> Vec<String> {
    let (mut capabilities, mut owners) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut fields = line.splitn(4, '\t');
        let mut next = || fields.next().unwrap_or_default();
        let (name, capability, owner, path) = (next(), next(), next(), next());
        // A line that is none continues the name of a file.
        let Some(path) = path.strip_prefix('/').map(PathBuf::from) else {
            continue;
        };
        if !packages.contains_key(name) {
            continue;
        }
        if !["", NONE].contains(&capability) {
            capabilities.push(path.clone());
        }
        if owner != "root:root" {
            owners.push(path);
        }
    }
    let mut told = Vec::new();
    for (lost, paths) in [
        (
            "images hold no file capabilities, which the packages give",
            &mut capabilities,
        ),
        (
            "everything in an image belongs to root, and not to whom the packages give",
            &mut owners,
        ),
    ] {
        paths.sort();
        if !paths.is_empty() {
            told.push(format!("{lost} {}", list_of(paths)));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use avocado_project::PackageHeader;

    use super::*;

    #[test]
    fn capabilities_and_owners_of_the_packages_that_came_are_told() {
        let header = PackageHeader {
            version: "1-r0.x".into(),
            epoch: 0,
            digest: "sha256:aa".into(),
        };
        let packages = PackageHeaders::from([("a".to_owned(), header)]);
        let text = "a\tcap_net_raw=ep\troot:root\t/usr/bin/ping\n\
                    a\t\troot:root\t/usr/bin/plain\n\
                    a\t(none)\tdaemon:adm\t/var/lib/b\n\
                    a\t\troot:adm\t/var/lib/a\n\
                    of the base\tcap_net_raw=ep\tdaemon:adm\t/usr/bin/other\n\
                    the second line of a name\n";
        assert_eq!(
            told(text, &packages),
            [
                "images hold no file capabilities, which the packages give /usr/bin/ping",
                "everything in an image belongs to root, and not to whom the packages give \
                 /var/lib/a, /var/lib/b",
            ]
        );
        assert!(told("a\t(none)\troot:root\t/x\n", &packages).is_empty());
    }
}
