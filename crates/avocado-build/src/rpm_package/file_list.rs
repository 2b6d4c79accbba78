//! Which files of a tree belong into a package, as people who know rpm write it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use avocado_project::{HiddenNames, PathPattern};

use super::{FileRole, PackagedFile};
use crate::error::BuildError;

/// The macros for places of a system that people write in lists of files.
const MACROS: [(&str, &str); 14] = [
    ("_prefix", "/usr"),
    ("_bindir", "/usr/bin"),
    ("_sbindir", "/usr/sbin"),
    ("_libdir", "/usr/lib"),
    ("_libexecdir", "/usr/libexec"),
    ("_includedir", "/usr/include"),
    ("_datadir", "/usr/share"),
    ("_mandir", "/usr/share/man"),
    ("_infodir", "/usr/share/info"),
    ("_docdir", "/usr/share/doc"),
    ("_sysconfdir", "/etc"),
    ("_localstatedir", "/var"),
    ("_sharedstatedir", "/var/lib"),
    ("_unitdir", "/usr/lib/systemd/system"),
];

/// Directories that every system has, and that no package of ours makes.
const OF_EVERY_SYSTEM: [&str; 23] = [
    "",
    "bin",
    "boot",
    "etc",
    "lib",
    "lib64",
    "opt",
    "sbin",
    "srv",
    "usr",
    "usr/bin",
    "usr/include",
    "usr/lib",
    "usr/lib/systemd",
    "usr/lib/systemd/system",
    "usr/lib64",
    "usr/libexec",
    "usr/sbin",
    "usr/share",
    "usr/share/doc",
    "var",
    "var/cache",
    "var/lib",
];

/// The lines of a list of files.
#[derive(Debug)]
pub(crate) struct FileList(Vec<FileLine>);

/// One of them: a pattern, and what is said of what it matches.
#[derive(Debug)]
struct FileLine {
    text: String,
    pattern: PathPattern,
    /// Not what is in it.
    directory_only: bool,
    exclude: bool,
    role: FileRole,
    mode: Option<u16>,
}

impl FileList {
    /// `lines` as they are written, for the package `package`.
    pub(crate) fn parse(package: &str, lines: &[String]) -> Result<Self, BuildError> {
        let parse = |line: &String| {
            FileLine::parse(line).map_err(|why| {
                let line = line.escape_debug();
                BuildError::Invalid(format!("`files` of package {package} has `{line}`, {why}"))
            })
        };
        let lines: Result<_, _> = lines.iter().map(parse).collect();
        lines.map(FileList)
    }

    /// What of `paths`, which are those of a tree, is in the package. A line that means nothing is an
    /// error.
    pub(crate) fn select(
        &self,
        package: &str,
        paths: &[PathBuf],
    ) -> Result<Vec<PackagedFile>, BuildError> {
        let mut selected: BTreeMap<&Path, PackagedFile> = BTreeMap::new();
        for line in self.0.iter().filter(|line| !line.exclude) {
            for path in line.matched(package, paths)? {
                let file = selected
                    .entry(path)
                    .or_insert_with(|| PackagedFile::from(path.to_owned()));
                // What one line states, another that says nothing of it does not take back.
                file.mode = line.mode.or(file.mode);
                if line.role != FileRole::Plain {
                    file.role = line.role;
                }
            }
        }
        for path in self.excluded(package, paths)? {
            selected.remove(path);
        }
        Ok(selected.into_values().collect())
    }

    /// What is left out on purpose.
    pub(crate) fn excluded<'p>(
        &self,
        package: &str,
        paths: &'p [PathBuf],
    ) -> Result<BTreeSet<&'p Path>, BuildError> {
        let mut excluded = BTreeSet::new();
        for line in self.0.iter().filter(|line| line.exclude) {
            excluded.extend(line.matched(package, paths)?);
        }
        Ok(excluded)
    }

    /// What a package has without a list: everything, but for directories that every system has.
    pub(crate) fn everything(paths: &[PathBuf]) -> Vec<PackagedFile> {
        let is_own = |path: &&PathBuf| {
            !OF_EVERY_SYSTEM
                .iter()
                .any(|of| path.as_path() == Path::new(of))
        };
        let own = paths.iter().filter(is_own);
        own.cloned().map(PackagedFile::from).collect()
    }
}

impl FileLine {
    fn parse(line: &str) -> Result<Self, String> {
        let mut parsed = FileLine {
            text: line.to_owned(),
            pattern: PathPattern::default(),
            directory_only: false,
            exclude: false,
            role: FileRole::Plain,
            mode: None,
        };
        let mut rest = line.trim();
        while let Some(directive) = rest.strip_prefix('%') {
            let end = directive.find(|c: char| !c.is_ascii_alphabetic());
            let (name, mut behind) = directive.split_at(end.unwrap_or(directive.len()));
            let mut arguments = "";
            if let Some(opened) = behind.strip_prefix('(') {
                let closed = opened.split_once(')');
                (arguments, behind) = closed.ok_or("in which a bracket is not closed")?;
            }
            match (name, arguments) {
                ("dir", "") => parsed.directory_only = true,
                ("exclude", "") => parsed.exclude = true,
                ("config", "noreplace") => parsed.role = FileRole::ConfigToKeep,
                ("config", "") => parsed.role = FileRole::Config,
                ("doc", "") => parsed.role = FileRole::Documentation,
                ("license", "") => parsed.role = FileRole::License,
                ("attr", arguments) => parsed.mode = attributes(arguments)?,
                // A macro.
                _ => break,
            }
            rest = behind.trim_start();
        }
        let quoted = rest
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let path = expanded(quoted.unwrap_or(rest))?;
        let below = path
            .strip_prefix('/')
            .ok_or("which is no path from `/` on")?;
        let parts = Path::new(below).components();
        let mut names = parts.clone();
        if !names.all(|part| matches!(part, Component::Normal(_))) {
            return Err("which leads out of what was installed".to_owned());
        }
        let below: PathBuf = parts.collect();
        let below = below.to_string_lossy();
        let pattern = PathPattern::new(&below);
        parsed.pattern = pattern.map_err(|error| format!("which is no pattern: {error}"))?;
        Ok(parsed)
    }

    /// What it means; of a directory all that is in it. Something has to be there.
    fn matched<'p>(
        &self,
        package: &str,
        paths: &'p [PathBuf],
    ) -> Result<Vec<&'p Path>, BuildError> {
        let is_matched = |path: &Path| self.pattern.matches(path, HiddenNames::NoMatch);
        let is_meant = |path: &&Path| {
            is_matched(path) || !self.directory_only && path.ancestors().skip(1).any(is_matched)
        };
        let paths = paths.iter().map(PathBuf::as_path);
        let matched: Vec<&Path> = paths.filter(is_meant).collect();
        if matched.is_empty() {
            return Err(BuildError::Invalid(format!(
                "`files` of package {package} has `{}`, and nothing that was installed is there",
                self.text.escape_debug()
            )));
        }
        Ok(matched)
    }
}

/// `0644, root, root`: the mode. Everything in a package of ours is root's.
fn attributes(arguments: &str) -> Result<Option<u16>, String> {
    let mut words = arguments.split(',').map(str::trim);
    let mode = words.next().unwrap_or("-");
    if let Some(other) = words.find(|owner| !["-", "root"].contains(owner)) {
        return Err(format!(
            "and files of `{}` cannot be packaged: an image has no owner but root",
            other.escape_debug()
        ));
    }
    if mode == "-" {
        return Ok(None);
    }
    match u16::from_str_radix(mode, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
        _ => Err(format!("in which `{}` is no mode", mode.escape_debug())),
    }
}

/// The path without macros: `%{_bindir}/x`, `%_bindir/x`, `%%`.
fn expanded(path: &str) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = path;
    while let Some((before, macro_)) = rest.split_once('%') {
        expanded += before;
        if let Some(behind) = macro_.strip_prefix('%') {
            expanded.push('%');
            rest = behind;
            continue;
        }
        let (name, behind) = match macro_.strip_prefix('{') {
            Some(opened) => opened
                .split_once('}')
                .ok_or("in which a brace is not closed")?,
            None => {
                let end = macro_.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                macro_.split_at(end.unwrap_or(macro_.len()))
            }
        };
        let known = MACROS.iter().find(|(known, _)| *known == name);
        let (_, value) = known.ok_or_else(|| {
            let names = MACROS.map(|(name, _)| name);
            format!(
                "and `%{}` is not known: there are %dir, %config, %config(noreplace), %doc, \
                 %license, %attr, %exclude and the macros {}",
                name.escape_debug(),
                names.join(", ")
            )
        })?;
        expanded += value;
        rest = behind;
    }
    Ok(expanded + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTALLED: [&str; 12] = [
        "",
        "etc",
        "etc/app.conf",
        "usr",
        "usr/bin",
        "usr/bin/app",
        "usr/bin/app-tool",
        "usr/lib",
        "usr/lib/app",
        "usr/lib/app/.hidden",
        "usr/lib/app/plugin.so",
        "var",
    ];

    fn installed() -> Vec<PathBuf> {
        INSTALLED.iter().map(PathBuf::from).collect()
    }

    fn selected(lines: &[&str]) -> Result<Vec<PackagedFile>, String> {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let list = FileList::parse("p", &lines).map_err(|e| e.to_string())?;
        list.select("p", &installed()).map_err(|e| e.to_string())
    }

    fn paths(files: &[PackagedFile]) -> String {
        let paths = files.iter().map(|file| file.path.display().to_string());
        paths.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_line_means_what_it_means_to_rpm() {
        for (lines, expected) in [
            (&["/usr/bin/*"][..], "usr/bin/app usr/bin/app-tool"),
            (
                &["%{_bindir}/app", "/etc/app.conf"],
                "etc/app.conf usr/bin/app",
            ),
            (
                &["%_libdir/app"],
                "usr/lib/app usr/lib/app/.hidden usr/lib/app/plugin.so",
            ),
            (&["%dir /usr/lib/app"], "usr/lib/app"),
            (&["/usr/lib/app/*"], "usr/lib/app/plugin.so"),
            (
                &["%exclude /usr/bin/*-tool", "/usr/bin", "/etc/app.conf"],
                "etc/app.conf usr/bin usr/bin/app",
            ),
            (&["\"/usr/bin/app\""], "usr/bin/app"),
        ] {
            assert_eq!(paths(&selected(lines).unwrap()), expected, "{lines:?}");
        }
        let file =
            &selected(&["%attr(0600, root, -) %config(noreplace) /etc/app.conf"]).unwrap()[0];
        assert_eq!(
            (file.role, file.mode),
            (FileRole::ConfigToKeep, Some(0o600))
        );
        let lines = [
            "%config(noreplace) /etc/app.conf",
            "/etc",
            "%attr(0600, -, -) /etc/*.conf",
        ];
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let files = selected(&order.map(|line| lines[line])).unwrap();
            let of = |path: &str| {
                let file = files
                    .iter()
                    .find(|file| file.path == Path::new(path))
                    .unwrap();
                (file.role, file.mode)
            };
            let stated = (FileRole::ConfigToKeep, Some(0o600));
            assert_eq!(of("etc/app.conf"), stated, "{order:?}");
            assert_eq!(of("etc"), (FileRole::Plain, None), "{order:?}");
        }
        let all = paths(&FileList::everything(&installed()));
        assert_eq!(
            all,
            "etc/app.conf usr/bin/app usr/bin/app-tool usr/lib/app usr/lib/app/.hidden \
             usr/lib/app/plugin.so"
        );
    }

    #[test]
    fn a_line_that_cannot_be_followed_is_an_error() {
        for (line, said) in [
            ("/usr/bin/none", "nothing that was installed is there"),
            ("usr/bin/app", "no path from `/` on"),
            ("/usr/../etc", "leads out of"),
            ("/usr/[b", "no pattern"),
            ("%{lua:os.exit(1)}/x", "`%lua:os.exit(1)` is not known"),
            ("%(touch pwned)", "`%` is not known"),
            ("%ghost /var/log/x", "`%ghost` is not known"),
            ("%{_bindir", "a brace is not closed"),
            ("%attr(0644 /etc", "a bracket is not closed"),
            ("%attr(0644, app, app) /etc/app.conf", "no owner but root"),
            ("%attr(rw, root) /etc/app.conf", "no mode"),
            ("", "no path from `/` on"),
        ] {
            let error = selected(&[line]).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
            assert!(error.starts_with("`files` of package p has `"), "{error}");
        }
    }
}
