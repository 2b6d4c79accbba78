//! One change of a map in the text, in whichever way the map is written.

use super::text;
use crate::yaml::{Entry, Node, Scalar, Style, Value};

/// What comes into a map: keys within each other, and in the innermost of them the packages.
pub(super) struct Addition<'a> {
    pub(super) keys: &'a [String],
    pub(super) packages: &'a [&'a str],
}

/// The entries that stand in the map itself, not those that `<<` takes from elsewhere.
pub(super) fn written(map: &Node) -> Vec<&Entry> {
    let mut end = map.span.start;
    let mut written = Vec::new();
    for entry in map.entries().unwrap_or_default() {
        if entry.key.span.start >= end {
            end = entry.key.span.end;
            if !is_alias(entry) {
                end = end.max(entry.value.span.end);
            }
            written.push(entry);
        }
    }
    written
}

/// Whether the value of an entry stands elsewhere.
pub(super) fn is_alias(entry: &Entry) -> bool {
    // An anchor comes before its aliases.
    entry.value.span.start < entry.key.span.start
}

fn is_nothing(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar(Scalar { text, style: Style::Plain }) if text.is_empty())
}

fn is_flow(document: &str, map: &Node) -> bool {
    document
        .get(map.span.start..)
        .is_some_and(|text| text.starts_with('{'))
}

/// The first byte behind an entry, without the space and comments that follow.
pub(super) fn end_of(document: &str, entry: &Entry) -> usize {
    if is_alias(entry) {
        let end = end_of_alias(document, entry.key.span.end);
        return end.unwrap_or(entry.key.span.end);
    }
    if is_nothing(&entry.value) {
        return entry.key.span.end;
    }
    let value = &entry.value;
    let last = match &value.value {
        Value::Mapping(_) if !is_flow(document, value) => {
            written(value).last().map(|last| end_of(document, last))
        }
        _ => None,
    };
    let end = last.unwrap_or(value.span.end).min(document.len());
    // A text of several lines ends where the next thing begins.
    let trimmed = document
        .get(..end)
        .map_or(end, |text| text.trim_end().len());
    trimmed.max(entry.key.span.end)
}

/// The first byte behind the alias that follows a key.
fn end_of_alias(document: &str, key_end: usize) -> Option<usize> {
    let behind_colon = document.get(key_end..)?.trim_start().strip_prefix(':')?;
    let name = behind_colon.trim_start().strip_prefix('*')?;
    let is_end = |c: char| c.is_whitespace() || ",[]{}".contains(c);
    let length = name.find(is_end).unwrap_or(name.len());
    Some(document.len() - name.len() + length)
}

/// The text with the addition in `map`, which is the value of `holder` (the root has none). `None`
/// where it is written in a way that leaves no place for it.
pub(super) fn add(
    document: &str,
    map: &Node,
    holder: Option<&Entry>,
    step: usize,
    addition: &Addition<'_>,
) -> Option<String> {
    let version = any_version(document, map);
    if let Some(last) = written(map).last() {
        let end = end_of(document, last);
        if is_flow(document, map) {
            let more = format!(", {}", addition.in_line(version));
            return inserted(document, end, &more);
        }
        let indent = text::indent(document, last.key.span.start)?;
        let lines = addition.lines(indent, step, version);
        let at = text::line_end(document, end);
        return Some(text::with_lines(document, at, &lines));
    }
    if is_flow(document, map) {
        return inserted(document, map.span.start + 1, &addition.in_line(version));
    }
    if !is_nothing(map) {
        return None;
    }
    match holder {
        // Nothing but comments.
        None => {
            let lines = addition.lines("", step, version);
            Some(text::with_lines(document, document.len(), &lines))
        }
        Some(holder) => {
            let indent = text::indent(document, holder.key.span.start)?;
            let indent = format!("{indent}{}", " ".repeat(step));
            let lines = addition.lines(&indent, step, version);
            let at = text::line_end(document, holder.key.span.end);
            Some(text::with_lines(document, at, &lines))
        }
    }
}

/// The text without an entry of `map`, which is the value of `holder`.
pub(super) fn remove(document: &str, map: &Node, holder: &Entry, entry: &Entry) -> Option<String> {
    let entries = written(map);
    let at = entries.iter().position(|e| e.key.span == entry.key.span)?;
    let (start, end) = (entry.key.span.start, end_of(document, entry));
    if is_flow(document, map) {
        let before = at.checked_sub(1).and_then(|at| entries.get(at));
        let before = before.map(|before| end_of(document, before));
        let next = entries.get(at + 1).map(|next| next.key.span.start);
        let (from, to) = cut_of_flow(document, before, (start, end), next)?;
        let (before, after) = (document.get(..from)?, document.get(to..)?);
        return Some(format!("{before}{after}"));
    }
    text::indent(document, start)?;
    if entries.len() > 1 {
        return Some(text::without_lines(document, start, end));
    }
    // Nothing at all would mean that the list was never written: a rootfs has packages then.
    let behind_key = document.get(holder.key.span.end..)?;
    let colon = behind_key.len() - behind_key.trim_start().strip_prefix(':')?.len();
    let colon = holder.key.span.end + colon;
    let shorter = text::without_lines(document, start, end);
    inserted(&shorter, colon, " {}")
}

/// What goes with the entry from `start` to `end` of a map in braces: one comma with the space
/// around it, and no comment. `None` where a comment would be lost, or would seem to be of another
/// entry.
fn cut_of_flow(
    document: &str,
    before: Option<usize>,
    (start, end): (usize, usize),
    next: Option<usize>,
) -> Option<(usize, usize)> {
    let blank = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
    let rest = document.get(end..)?;
    let comma = rest.get(blank(rest)..)?.strip_prefix(',');
    let behind = document.len() - comma.unwrap_or(rest).len();
    let rest = document.get(behind..)?;
    let rest = rest.get(blank(rest)..)?;
    let is_first_of_line = text::indent(document, start).is_some();
    if is_first_of_line && rest.starts_with('#') {
        return None;
    }
    let has_line = is_first_of_line && rest.starts_with(['\n', '\r']);
    // Between entries there is nothing but space, a comma and comments.
    let has_comment = |from: usize, to: usize| {
        let between = document.get(from..to);
        between.is_none_or(|between| between.contains('#'))
    };
    match (before, next) {
        (_, Some(next)) if !has_comment(end, next) => Some((start, next)),
        (Some(before), None) if !has_comment(before, start) => Some((before, end)),
        _ if has_line => Some((
            text::line_start(document, start),
            text::line_end(document, behind),
        )),
        (_, Some(_)) => None,
        // A comma may be the last thing in the braces.
        (_, None) => Some((start, behind)),
    }
}

fn inserted(document: &str, at: usize, what: &str) -> Option<String> {
    let (before, after) = (document.get(..at)?, document.get(at..)?);
    Some(format!("{before}{what}{after}"))
}

/// "Any version" in the quotes of the neighbours, or else of most of the file.
fn any_version(document: &str, map: &Node) -> &'static str {
    let entries = written(map).into_iter().rev();
    let quotes = entries.filter_map(|entry| document.get(entry.value.span.start..)?.chars().next());
    let neighbour = quotes.into_iter().find(|quote| ['\'', '"'].contains(quote));
    let single = match neighbour {
        Some(quote) => quote == '\'',
        None => document.matches("'*'").count() > document.matches("\"*\"").count(),
    };
    if single { "'*'" } else { "\"*\"" }
}

/// How far a map is indented in the map that holds it.
pub(super) fn step_of(document: &str, root: &Node) -> usize {
    fn first(document: &str, map: &Node) -> Option<usize> {
        written(map).into_iter().find_map(|entry| {
            let value = &entry.value;
            if is_alias(entry) || is_flow(document, value) {
                return None;
            }
            let child = *written(value).first()?;
            let column = |entry: &Entry| usize::try_from(entry.key.span.column).ok();
            let step = column(child)?.checked_sub(column(entry)?);
            step.filter(|step| *step > 0)
                .or_else(|| first(document, value))
        })
    }
    first(document, root).unwrap_or(2)
}

impl Addition<'_> {
    fn lines(&self, indent: &str, step: usize, version: &str) -> Vec<String> {
        let at = |depth: usize| format!("{indent}{}", " ".repeat(depth * step));
        let keys = self.keys.iter().enumerate();
        let keys = keys.map(|(depth, key)| format!("{}{}:", at(depth), text::key(key)));
        let innermost = at(self.keys.len());
        let packages = self.packages.iter();
        let packages =
            packages.map(|package| format!("{innermost}{}: {version}", text::key(package)));
        keys.chain(packages).collect()
    }

    fn in_line(&self, version: &str) -> String {
        let packages = self.packages.iter();
        let packages = packages.map(|package| format!("{}: {version}", text::key(package)));
        let innermost = packages.collect::<Vec<_>>().join(", ");
        let keys = self.keys.iter().rev();
        keys.fold(innermost, |inner, key| {
            format!("{}: {{{inner}}}", text::key(key))
        })
    }

    /// What it makes of a tree.
    pub(super) fn apply(&self, map: &mut Node) {
        if map.is_null() {
            map.value = Value::Mapping(Vec::new());
        }
        let Value::Mapping(entries) = &mut map.value else {
            return;
        };
        let node = |value| Node {
            value,
            span: map.span,
        };
        let scalar = |text: &str, style| {
            Value::Scalar(Scalar {
                text: text.to_owned(),
                style,
            })
        };
        let mut push = |key: &str, value: Node| {
            let key = crate::yaml::Key {
                text: key.to_owned(),
                span: map.span,
            };
            entries.push(Entry { key, value });
        };
        match self.keys.split_first() {
            Some((first, rest)) => {
                let mut inner = node(scalar("", Style::Plain));
                let addition = Addition {
                    keys: rest,
                    packages: self.packages,
                };
                addition.apply(&mut inner);
                push(first, inner);
            }
            None => {
                for package in self.packages {
                    push(package, node(scalar("*", Style::Quoted)));
                }
            }
        }
    }
}

/// Whether two trees say the same, wherever that stands.
pub(super) fn says_the_same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Mapping(a), Value::Mapping(b)) => {
            let is_in_b = |entry: &Entry| {
                let mut others = b.iter();
                let other = others.find(|other| other.key.text == entry.key.text);
                other.is_some_and(|other| says_the_same(&entry.value, &other.value))
            };
            a.len() == b.len() && a.iter().all(is_in_b)
        }
        (Value::Sequence(a), Value::Sequence(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| says_the_same(a, b))
        }
        (Value::Scalar(a), Value::Scalar(b)) => a == b,
        _ => false,
    }
}
