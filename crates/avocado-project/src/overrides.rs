//! `target-<name>:` inside sections: what differs for one target.
//!
//! An override is a map below a key `target-<name>`. For the current target it is merged over the
//! section that holds it: maps are merged key by key, everything else is replaced. For another
//! target it is dropped. A bare `<name>` is the old spelling. It counts only in sections whose
//! keys the format defines: in a map of names (extensions, packages, users …) it is a name.

use std::collections::HashMap;

use crate::report::Report;
use crate::shape::{KERNEL, Reading, Shape, is_for_kernels};
use crate::source::FileId;
use crate::suggest;
use crate::text::quoted;
use crate::yaml::{Entry, Key, Node, Value};

/// `kernel-<spec>:` in a section: what differs for some kernels, which are not known yet.
#[derive(Debug, PartialEq)]
pub(crate) struct KernelOverride {
    /// Where the section is, for example `extensions`, `app`. One that is not in a map of names
    /// counts as the one called `default`.
    pub(crate) section: Vec<String>,
    /// The key, with `kernel-`.
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// The key of the packages of a section.
const PACKAGES: &str = "packages";

/// Applies the overrides of `target` everywhere below the top level, and gives keys with an old
/// name their present one. What differs for some kernels is taken out.
pub(crate) fn apply(
    root: Node,
    shape: &Shape,
    target: &str,
    supported: &[String],
    report: &mut Report,
) -> (Node, Vec<KernelOverride>) {
    let Value::Mapping(entries) = root.value else {
        return (root, Vec::new());
    };
    let mut overrides = Overrides {
        target,
        supported,
        report,
        path: Vec::new(),
        is_for_kernels: false,
        kernels: Vec::new(),
    };
    let entries = entries
        .into_iter()
        .map(|entry| {
            let below = shape.field(&entry.key.text);
            overrides.entry(entry, below)
        })
        .collect();
    let root = Node {
        value: Value::Mapping(entries),
        span: root.span,
    };
    (root, overrides.kernels)
}

struct Overrides<'a> {
    target: &'a str,
    supported: &'a [String],
    report: &'a mut Report,
    /// Of the value that is looked at.
    path: Vec<String>,
    /// Whether it is a part of an override for some kernels.
    is_for_kernels: bool,
    kernels: Vec<KernelOverride>,
}

/// What a key is.
enum KeyRole {
    Base,
    /// The old spelling, for the current target.
    BareOverride,
    Override,
    /// An override for another target.
    OverrideOfAnother,
    /// For some kernels, in a section that may differ for them.
    KernelOverride(Vec<String>),
    /// The same for the packages of the section, in their map.
    KernelPackages(Vec<String>),
    /// What is reported.
    Wrong,
}

impl Overrides<'_> {
    fn entry(&mut self, entry: Entry, shape: &Shape) -> Entry {
        let reading = shape.read(&entry.value);
        self.path.push(entry.key.text.clone());
        let value = self.node(entry.value, reading);
        self.path.pop();
        Entry {
            key: entry.key,
            value,
        }
    }

    fn node(&mut self, node: Node, reading: Reading<'_>) -> Node {
        let mut entries = match (node.value, reading) {
            (Value::Mapping(entries), Reading::Section(_) | Reading::Names(_)) => entries,
            (value, _) => {
                return Node {
                    value,
                    span: node.span,
                };
            }
        };
        if let Reading::Section(section) = reading {
            section.rename_old_keys(&mut entries, self.report);
        }
        let (mut base, mut bare, mut current) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            match self.role(&entry, reading) {
                KeyRole::Base => {
                    let below = match reading {
                        Reading::Section(section) => section.field(&entry.key.text),
                        Reading::Names(names) => names,
                        Reading::Opaque => continue,
                    };
                    base.push(self.entry(entry, below));
                }
                // An override is a part of the section that it overrides.
                KeyRole::BareOverride => bare.push(self.node(entry.value, reading)),
                KeyRole::Override => current.push(self.node(entry.value, reading)),
                KeyRole::OverrideOfAnother | KeyRole::Wrong => {}
                KeyRole::KernelOverride(section) => {
                    let value = self.for_kernels(entry.value, reading);
                    self.kernels.push(KernelOverride {
                        section,
                        key: entry.key,
                        value,
                    });
                }
                KeyRole::KernelPackages(section) => {
                    let packages = Entry {
                        key: Key {
                            text: PACKAGES.to_owned(),
                            span: entry.key.span,
                        },
                        value: self.for_kernels(entry.value, reading),
                    };
                    self.kernels.push(KernelOverride {
                        section,
                        value: Node {
                            value: Value::Mapping(vec![packages]),
                            span: entry.key.span,
                        },
                        key: entry.key,
                    });
                }
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

    /// The value of an override for some kernels.
    fn for_kernels(&mut self, value: Node, reading: Reading<'_>) -> Node {
        let outer = std::mem::replace(&mut self.is_for_kernels, true);
        let value = self.node(value, reading);
        self.is_for_kernels = outer;
        value
    }

    fn role(&mut self, entry: &Entry, reading: Reading<'_>) -> KeyRole {
        let key = entry.key.text.as_str();
        let map = matches!(entry.value.value, Value::Mapping(_));
        let map_or_null = map || entry.value.is_null();
        let in_section = matches!(reading, Reading::Section(_));
        if let Some(name) = key.strip_prefix("target-") {
            // A package may be called `target-…`: `packages: {target-tools: "*"}`.
            let over = map || map_or_null && in_section;
            if !over {
                return KeyRole::Base;
            }
            if name == self.target {
                return KeyRole::Override;
            }
            self.check_target(name, &entry.key);
            return KeyRole::OverrideOfAnother;
        }
        if !map_or_null {
            return KeyRole::Base;
        }
        if in_section && key.starts_with(KERNEL) || is_for_kernels(key) {
            return self.kernel_role(&entry.key, in_section);
        }
        if !in_section {
            return KeyRole::Base;
        }
        if key == self.target {
            self.deprecated(&entry.key);
            return KeyRole::BareOverride;
        }
        if self.supported.iter().any(|name| name == key) {
            self.deprecated(&entry.key);
            return KeyRole::OverrideOfAnother;
        }
        KeyRole::Base
    }

    /// What an override for some kernels is, which are known when packages are installed.
    fn kernel_role(&mut self, key: &Key, in_section: bool) -> KeyRole {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let (place, is_packages) = match &path[..] {
            [section @ .., PACKAGES] if !in_section => (section, true),
            section => (section, false),
        };
        let section = match place {
            ["extensions" | "runtimes" | "rootfs" | "initramfs", _]
            | ["runtimes", _, "rootfs" | "initramfs"]
            | ["sdk", "compile", _] => Some(place.to_vec()),
            [section @ ("rootfs" | "initramfs")] => Some(vec![*section, "default"]),
            _ => None,
        };
        let section = section.map(|names| names.into_iter().map(ToOwned::to_owned).collect());
        match section {
            Some(section) if !self.is_for_kernels && is_packages => {
                KeyRole::KernelPackages(section)
            }
            Some(section) if !self.is_for_kernels && in_section => KeyRole::KernelOverride(section),
            found => {
                let message = format!("{} cannot stand here", quoted(&key.text));
                let hint = match (found, place) {
                    (Some(_), _) if self.is_for_kernels => {
                        "it is within an override for kernels: state what it asks for in the outer one"
                    }
                    (Some(_), _) => "state it below one of the names",
                    (None, ["kernel", ..]) => "`kernel` says which kernel it is: it hangs on none",
                    (None, ["sdk", ..]) => {
                        "the SDK is there before the kernel is known; sections of `sdk.compile` may \
                         have other packages for some kernels"
                    }
                    (None, _) => {
                        "packages of extensions, runtimes, `rootfs`, `initramfs` and sections of \
                         `sdk.compile` may differ for a kernel"
                    }
                };
                self.report.error(key.span, message).hint(hint);
                KeyRole::Wrong
            }
        }
    }

    /// Says that an override is for none of the project's targets. What is fetched may be made for
    /// more of them.
    fn check_target(&mut self, name: &str, key: &Key) {
        let supported = || self.supported.iter().map(String::as_str);
        let is_known = self.supported.is_empty() || supported().any(|known| known == name);
        if is_known || key.span.file != FileId::MAIN {
            return;
        }
        let message = format!("{} is for no target of the project", quoted(&key.text));
        let hint = suggest::hint(name, supported());
        self.report.warning(key.span, message).hint(hint);
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
    use crate::source::FileId;
    use crate::yaml;

    /// A format with sections, maps of names, and a section that may be either.
    fn shape() -> Shape {
        let any = || serde_json::json!({});
        let section =
            |properties: serde_json::Value| serde_json::json!({ "properties": properties });
        let names = |of: serde_json::Value| serde_json::json!({ "additionalProperties": of });
        let image = section(serde_json::json!({ "packages": names(any()), "filesystem": any() }));
        let a = section(serde_json::json!({ "a": any() }));
        Shape::from_schema(&section(serde_json::json!({
            "s": section(serde_json::json!({
                "a": any(), "b": any(), "c": any(), "l": any(), "n": a.clone(), "m": section(any()),
                "packages": names(section(serde_json::json!({ "version": any() }))),
            })),
            "runtimes": names(a.clone()),
            "rootfs": { "anyOf": [image.clone(), names(image)] },
        })))
    }

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
        let root = yaml::parse(FileId::MAIN, &mut report).expect("valid YAML");
        let supported = ["t1".to_owned(), "t2".to_owned()];
        let (root, _) = apply(root, &shape(), "t1", &supported, &mut report);
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
    fn overrides_for_kernels_are_taken_out_of_where_they_are() {
        for (text, expected) in [
            (
                "rootfs: {filesystem: f, kernel-6.6: {packages: {x: 1}}}",
                "rootfs.default kernel-6.6 {packages:{x:1}}",
            ),
            (
                "rootfs: {kernel-6.6.*: {packages: {x: 1}}}",
                "rootfs.default kernel-6.6.* {packages:{x:1}}",
            ),
            (
                "rootfs: {a: {kernel-6.6.*: {packages: {x: 1}}}}",
                "rootfs.a kernel-6.6.* {packages:{x:1}}",
            ),
            (
                "rootfs: {packages: {kernel-x: 1, kernel-6.6: {version: 1}, kernel-<6.6: {x: 1}}}",
                "rootfs.default kernel-<6.6 {packages:{x:1}}",
            ),
            (
                "runtimes: {r: {a: 1, target-t1: {kernel-6.6: {a: 2, target-t1: {a: 3}}}}}",
                "runtimes.r kernel-6.6 {a:3}",
            ),
            ("runtimes: {r: {target-t2: {kernel-6.6: {a: 2}}}}", ""),
        ] {
            let mut report = Report::new("f".as_ref(), text);
            let root = yaml::parse(FileId::MAIN, &mut report).expect("valid YAML");
            let supported = ["t1".to_owned(), "t2".to_owned()];
            let (_, kernels) = apply(root, &shape(), "t1", &supported, &mut report);
            let taken = kernels.iter().map(|over| {
                let section = over.section.join(".");
                format!("{section} {} {}", over.key.text, show(&over.value))
            });
            assert_eq!(taken.collect::<Vec<_>>().join(" "), expected, "{text}");
            assert_eq!(report.finish(), [], "{text}");
        }
    }

    #[test]
    fn overrides_for_kernels_are_told_where_they_can_be_for_none() {
        for text in [
            "s: {kernel-6.6.*: {a: 1}}",
            "s: {packages: {kernel-6.6.*: {a: 1}}}",
            "rootfs: {a: {packages: {}}, kernel-6.6.*: {packages: {}}}",
            "runtimes: {r: {kernel-6.6.*: {kernel-6.6.5: {a: 1}}}}",
        ] {
            let found = applied(text).1;
            assert!(found[0].ends_with("cannot stand here"), "{text}: {found:?}");
            assert_eq!(found.len(), 1, "{text}: {found:?}");
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
                "f:4:3: `kernel-6.6` cannot stand here",
            ]
        );
        assert_eq!(applied("s: {target-t1: {a: 1}}").1, [""; 0]);
    }
}
