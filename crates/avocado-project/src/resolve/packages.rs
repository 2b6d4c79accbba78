use crate::decode::{Spanned, TextOr};
use crate::diagnostic::quoted;
use crate::model::Packages;
use crate::raw::{RawPackage, RawPackages, Text};

use super::Resolver;

impl Resolver<'_, '_> {
    /// Package name → version. Both reach the package manager as arguments.
    pub(super) fn packages(&mut self, raw: Option<RawPackages>) -> Packages {
        let mut packages = Packages::new();
        for (name, value) in raw.unwrap_or_default().0 {
            if let Some(version) = self.package(&name, value) {
                packages.insert(name.value, version);
            }
        }
        packages
    }

    fn package(
        &mut self,
        name: &Text,
        value: Option<Spanned<TextOr<RawPackage>>>,
    ) -> Option<String> {
        if !is_package(name) {
            let message = format!("{} is not the name of a package", quoted(name));
            self.report.error(name.span, message);
            return None;
        }
        let any = || "*".to_owned();
        let Some(Spanned { value, span }) = value else {
            return Some(any());
        };
        let version = match value {
            TextOr::Text(value) => Spanned { value, span },
            TextOr::Other(raw) => {
                if let Some(part) = raw.compile.as_ref().or(raw.install.as_ref()) {
                    self.unsupported(part.span, "a package that the project compiles");
                    return None;
                }
                if let Some(part) = &raw.extensions {
                    self.unsupported(part.span, "an extension of another project");
                    return None;
                }
                match raw.version {
                    Some(version) => version,
                    None => return Some(any()),
                }
            }
        };
        if is_package_version(&version) {
            return Some(version.value);
        }
        let message = format!("{} is not the version of a package", quoted(&version));
        self.report
            .error(version.span, message)
            .hint("write \"*\" for any version, or an exact one such as \"1.2.3-r0\"");
        None
    }
}

/// No white space (a template that is resolved later may have some), and nothing that reads as
/// an option.
fn is_package(name: &str) -> bool {
    let space = |c: char| c.is_whitespace() || c.is_control();
    !name.is_empty()
        && !name.starts_with('-')
        && (name.contains("{{") || !name.chars().any(space))
        && !name.chars().any(char::is_control)
}

fn is_package_version(text: &str) -> bool {
    let usable = |c: char| c.is_ascii_alphanumeric() || "._+~^:*-".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(usable)
}
