use std::path::{Component, Path};

/// Whether a path leads to something below the directory that it is joined to, where no symbolic link is
/// on the way: it has names alone, and at least one.
pub fn leads_below(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_alone_lead_below() {
        for (path, is_below) in [
            ("a", true),
            ("a/b", true),
            ("a/./b", true),
            ("..a", true),
            ("", false),
            (".", false),
            ("./a", false),
            ("..", false),
            ("a/../b", false),
            ("a/../../b", false),
            ("/a", false),
        ] {
            assert_eq!(leads_below(Path::new(path)), is_below, "{path}");
        }
    }
}
