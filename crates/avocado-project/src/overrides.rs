//! `target-<name>:` inside sections: what differs for one target.
//!
//! An override is a map below a key `target-<name>`. For the current target it is merged over the
//! section that holds it: maps are merged key by key, everything else is replaced. For another
//! target it is dropped. A bare `<name>` is the old spelling. It counts only in sections whose
//! keys the format defines: in a map of names (extensions, packages, users …) it is a name.

use std::collections::HashMap;

use crate::diagnostic::{Report, quoted};
use crate::raw;
use crate::yaml::{Entry, Key, Node, Value};

/// Maps whose keys are chosen by the project.
const NAMED: [&str; 12] = [
    "compile",
    "dependencies",
    "extensions",
    "groups",
    "packages",
    "provision",
    "provision_profiles",
    "runtime",
    "runtimes",
    "split",
    "subvolumes",
    "users",
];

/// Applies the overrides of `target` everywhere below the top level.
pub(crate) fn apply(
    root: Node,
    target: &str,
    supported: &[String],
    report: &mut Report<'_>,
) -> Node {
    let Value::Mapping(entries) = root.value else {
        return root;
    };
    let mut overrides = Overrides {
        target,
        supported,
        report,
    };
    let entries = entries
        .into_iter()
        .map(|entry| {
            let kind = match raw::section_fields(&entry.key.text) {
                Some(fields) if !raw::is_singleton(&entry.value, fields) => Kind::Names,
                Some(_) => Kind::Section,
                None => Kind::of(&entry.key.text),
            };
            overrides.entry(entry, kind)
        })
        .collect();
    Node {
        value: Value::Mapping(entries),
        span: root.span,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// The format defines the keys.
    Section,
    /// The project chooses the keys.
    Names,
}

impl Kind {
    fn of(key: &str) -> Self {
        if NAMED.contains(&key) {
            Kind::Names
        } else {
            Kind::Section
        }
    }

    /// Of the value below `key` in a map of this kind.
    fn below(self, key: &str) -> Self {
        match self {
            Kind::Names => Kind::Section,
            Kind::Section => Kind::of(key),
        }
    }
}

struct Overrides<'a, 'r, 't> {
    target: &'a str,
    supported: &'a [String],
    report: &'r mut Report<'t>,
}

/// What a key is.
enum Role {
    Base,
    /// The old spelling, for the current target.
    Bare,
    Target,
    /// An override for another target.
    Other,
}

impl Overrides<'_, '_, '_> {
    fn entry(&mut self, entry: Entry, kind: Kind) -> Entry {
        Entry {
            key: entry.key,
            value: self.node(entry.value, kind),
        }
    }

    fn node(&mut self, node: Node, kind: Kind) -> Node {
        let Value::Mapping(entries) = node.value else {
            return node;
        };
        let (mut base, mut bare, mut current) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            match self.role(&entry, kind) {
                Role::Base => {
                    let below = kind.below(&entry.key.text);
                    base.push(self.entry(entry, below));
                }
                // An override is a part of the section that it overrides.
                Role::Bare => bare.push(self.node(entry.value, kind)),
                Role::Target => current.push(self.node(entry.value, kind)),
                Role::Other => {}
            }
        }
        for over in bare.into_iter().chain(current) {
            if let Value::Mapping(entries) = over.value {
                merge(&mut base, entries);
            }
        }
        Node {
            value: Value::Mapping(base),
            span: node.span,
        }
    }

    fn role(&mut self, entry: &Entry, kind: Kind) -> Role {
        let key = entry.key.text.as_str();
        let map = matches!(entry.value.value, Value::Mapping(_));
        let section = map || entry.value.is_null();
        if let Some(name) = key.strip_prefix("target-") {
            // A package may be called `target-…`: `packages: {target-tools: "*"}`.
            return match (map || section && kind == Kind::Section, name == self.target) {
                (false, _) => Role::Base,
                (true, true) => Role::Target,
                (true, false) => Role::Other,
            };
        }
        if kind == Kind::Names || !section {
            return Role::Base;
        }
        if key.starts_with("kernel-") {
            let message = format!("{} is not supported by this version yet", quoted(key));
            self.report
                .error(entry.key.span, message)
                .hint("state what the section needs without an override for a kernel");
            return Role::Other;
        }
        if key == self.target {
            self.deprecated(&entry.key);
            return Role::Bare;
        }
        if self.supported.iter().any(|name| name == key) {
            self.deprecated(&entry.key);
            return Role::Other;
        }
        Role::Base
    }

    fn deprecated(&mut self, key: &Key) {
        let text = &key.text;
        let message = format!("{} is an old way to write an override", quoted(text));
        self.report
            .warning(key.span, message)
            .hint(format!("write `target-{text}:`"));
    }
}

/// Merges `over` into `base`: maps key by key, everything else is replaced.
fn merge(base: &mut Vec<Entry>, over: Vec<Entry>) {
    let mut places: HashMap<String, usize> = base
        .iter()
        .enumerate()
        .map(|(at, entry)| (entry.key.text.clone(), at))
        .collect();
    for entry in over {
        let place = places.get(&entry.key.text).copied();
        match place.and_then(|at| base.get_mut(at)) {
            Some(old) => match (&mut old.value.value, entry.value.value) {
                (Value::Mapping(old), Value::Mapping(new)) => merge(old, new),
                (_, value) => {
                    old.key = entry.key;
                    old.value = Node {
                        value,
                        span: entry.value.span,
                    };
                }
            },
            None => {
                places.insert(entry.key.text.clone(), base.len());
                base.push(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    /// The tree as compact JSON-like text.
    fn show(node: &Node) -> String {
        match &node.value {
            Value::Scalar(scalar) => scalar.text.clone(),
            Value::Sequence(items) => {
                let items: Vec<String> = items.iter().map(show).collect();
                format!("[{}]", items.join(","))
            }
            Value::Mapping(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|e| format!("{}:{}", e.key.text, show(&e.value)))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    fn applied(text: &str) -> (String, Vec<String>) {
        let mut report = Report::new("f".as_ref(), text);
        let root = yaml::parse(&mut report).expect("valid YAML");
        let supported = ["t1".to_owned(), "t2".to_owned()];
        let root = apply(root, "t1", &supported, &mut report);
        let found = report.finish();
        (show(&root), found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_overrides_what() {
        for (text, expected) in [
            ("s: {a: 1, target-t1: {a: 2, b: 3}}", "{s:{a:2,b:3}}"),
            ("s: {a: 1, target-t2: {a: 2, b: 3}}", "{s:{a:1}}"),
            // Any order in the file; deep; lists are replaced.
            (
                "s: {target-t1: {m: {x: 2}, l: [c]}, m: {x: 1, y: 1}, l: [a, b]}",
                "{s:{m:{x:2,y:1},l:[c]}}",
            ),
            // The bare form is weaker.
            (
                "s: {target-t1: {a: target}, t1: {a: bare, b: bare}, a: base, b: base, c: base}",
                "{s:{a:target,b:bare,c:base}}",
            ),
            ("s: {a: 1, t2: {a: 2}, t3: {a: 3}}", "{s:{a:1,t3:{a:3}}}"),
            // Nested, and an override inside an override.
            ("s: {n: {a: 1, target-t1: {a: 2}}}", "{s:{n:{a:2}}}"),
            ("s: {target-t1: {n: {target-t1: {a: 2}}}}", "{s:{n:{a:2}}}"),
            (
                "s: {n: {target-t1: {a: 2}}, target-t1: {n: {a: 3}}}",
                "{s:{n:{a:3}}}",
            ),
            // Names are not old overrides.
            (
                "runtimes: {t1: {a: 1}, t2: {a: 2}}",
                "{runtimes:{t1:{a:1},t2:{a:2}}}",
            ),
            (
                "rootfs: {t1: {packages: {}}}",
                "{rootfs:{t1:{packages:{}}}}",
            ),
            (
                "rootfs: {filesystem: a, t1: {filesystem: b}}",
                "{rootfs:{filesystem:b}}",
            ),
            (
                "s: {packages: {target-tools: '*', kernel-modules: {version: 1}, target-t1: {x: 1}}}",
                "{s:{packages:{target-tools:*,kernel-modules:{version:1},x:1}}}",
            ),
            // The top level has no overrides.
            ("target-t1: {a: 1}", "{target-t1:{a:1}}"),
            ("s: {target-t1: , a: 1}", "{s:{a:1}}"),
            ("[1, 2]", "[1,2]"),
        ] {
            assert_eq!(applied(text).0, expected, "{text}");
        }
    }

    #[test]
    fn what_is_said() {
        let (_, found) = applied("s:\n  t1: {a: 1}\n  t2: {a: 1}\n  kernel-6.6: {a: 1}\n");
        assert_eq!(
            found,
            [
                "f:2:3: `t1` is an old way to write an override",
                "f:3:3: `t2` is an old way to write an override",
                "f:4:3: `kernel-6.6` is not supported by this version yet",
            ]
        );
        assert_eq!(applied("s: {target-t1: {a: 1}}").1, [""; 0]);
    }
}
