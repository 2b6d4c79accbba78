use semver::{BuildMetadata, Prerelease, Version, VersionReq};

use crate::report::Report;
use crate::source::FileId;
use crate::text::quoted;
use crate::yaml::{self, Node, Value};

/// The tree of a file, if it is a project for this version.
pub(super) fn parse(file: FileId, cli_version: &str, report: &mut Report) -> Option<Node> {
    let errors_before = report.error_count();
    let root = yaml::parse(file, report)?;
    if !matches!(root.value, Value::Mapping(_)) && !root.is_null() {
        let found = root.describe();
        let message = format!("the project must be a map, found {found}");
        report.error(root.span, message);
        return None;
    }
    // Before everything else: a newer format may be wrong in the eyes of this program.
    check_requirement(&root, cli_version, report);
    (report.error_count() == errors_before).then_some(root)
}

fn check_requirement(root: &Node, cli_version: &str, report: &mut Report) {
    let Some(node) = root.get("cli_requirement") else {
        return;
    };
    let Some(text) = node.as_text() else {
        // Null states nothing; another shape is reported with the other types.
        return;
    };
    let requirement = match VersionReq::parse(text) {
        Ok(requirement) => requirement,
        Err(error) => {
            let message = format!("{} is not a version requirement: {error}", quoted(text));
            report
                .error(node.span, message)
                .hint("write for example \">=0.41.0\" or \">=0.41.0, <1.0.0\"");
            return;
        }
    };
    let Ok(mut version) = Version::parse(cli_version) else {
        let message = format!("{} is not a version to compare with", quoted(cli_version));
        report.error(node.span, message);
        return;
    };
    // A pre-release of 1.0.0 has what 1.0.0 has.
    version.pre = Prerelease::EMPTY;
    version.build = BuildMetadata::EMPTY;
    if !requirement.matches(&version) {
        let text = quoted(text);
        let message = format!("the project needs avocado {text}, and this is {cli_version}");
        report
            .error(node.span, message)
            .hint("use another version of avocado, or change `cli_requirement`");
    }
}
