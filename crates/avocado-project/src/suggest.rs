//! "Did you mean …?"

/// The candidate that `text` most likely is a slip of, if any is near enough.
pub(crate) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A name of more characters than this is no slip of the finger, and the distance is quadratic.
    if text.chars().count() > 100 {
        return None;
    }
    let allowed = 1 + text.chars().count() / 4;
    candidates
        .into_iter()
        .filter(|c| !c.is_empty() && c.len() <= 200)
        .map(|c| (strsim::damerau_levenshtein(text, c), c))
        .filter(|(distance, c)| *distance <= allowed && *distance < c.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// A hint for an unknown name: the nearest one where there is one, else all of them.
pub(crate) fn hint<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = candidates.into_iter().collect();
    let list = || {
        let shown: Vec<String> = all.iter().take(20).map(|c| format!("`{c}`")).collect();
        let more = if all.len() > 20 { ", …" } else { "" };
        format!("{}{more}", shown.join(", "))
    };
    match nearest(text, all.iter().copied()) {
        Some(near) if all.len() == 1 => format!("did you mean `{near}`?"),
        Some(near) => format!("did you mean `{near}`? Available: {}", list()),
        None if all.is_empty() => "the project defines none".to_owned(),
        None => format!("available: {}", list()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let fields = ["packages", "filesystem", "overlay", "version"];
        for (slip, meant) in [
            ("pakages", Some("packages")),
            ("filesytem", Some("filesystem")),
            ("Version", Some("version")),
            ("overlya", Some("overlay")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(slip, fields), meant, "{slip}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), fields), None);
    }

    #[test]
    fn the_hint_lists_what_there_is() {
        assert_eq!(hint("x", []), "the project defines none");
        assert_eq!(hint("zzz", ["app", "net"]), "available: `app`, `net`");
        assert_eq!(
            hint("ap", ["app", "net"]),
            "did you mean `app`? Available: `app`, `net`"
        );
    }
}
