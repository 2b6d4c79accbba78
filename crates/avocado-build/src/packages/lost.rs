//! What packages say of their files that no image of ours holds: owners other than root.

use std::path::PathBuf;

use avocado_project::PackageHeaders;

use crate::trees::list_of;

/// What rpm is asked of every file.
pub(crate) const QUERY: &str = "[%{=NAME}\\t%{FILEUSERNAME}:%{FILEGROUPNAME}\\t%{FILENAMES}\\n]";

/// What there is to tell of the files of `packages`, from rpm's answer to [`QUERY`].
pub(crate) fn told(text: &str, packages: &PackageHeaders) -> Option<String> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, '\t');
        let mut next = || fields.next().unwrap_or_default();
        let (name, owner, path) = (next(), next(), next());
        // A line that is none continues the name of a file.
        let Some(path) = path.strip_prefix('/').map(PathBuf::from) else {
            continue;
        };
        if packages.contains_key(name) && owner != "root:root" {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return None;
    }
    paths.sort();
    Some(format!(
        "everything in an image belongs to root, and not to whom the packages give {}",
        list_of(&paths)
    ))
}

#[cfg(test)]
mod tests {
    use avocado_project::PackageHeader;

    use super::*;

    #[test]
    fn owners_of_the_packages_that_came_are_told() {
        let header = PackageHeader {
            version: "1-r0.x".into(),
            epoch: 0,
            digest: "sha256:aa".into(),
        };
        let packages = PackageHeaders::from([("a".to_owned(), header)]);
        let text = "a\troot:root\t/usr/bin/plain\n\
                    a\tdaemon:adm\t/var/lib/b\n\
                    a\troot:adm\t/var/lib/a\n\
                    of the base\tdaemon:adm\t/usr/bin/other\n\
                    the second line of a name\n";
        assert_eq!(
            told(text, &packages).unwrap(),
            "everything in an image belongs to root, and not to whom the packages give \
             /var/lib/a, /var/lib/b",
        );
        assert_eq!(told("a\troot:root\t/x\n", &packages), None);
    }
}
