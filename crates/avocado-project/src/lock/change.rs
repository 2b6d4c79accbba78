//! In what two lock files differ, for people.

use serde_json::Value;

/// A value that is in one lock file only, or is another one there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueChange {
    /// The names on the way to it, for example `targets`, `qemux86-64`, `rootfs`, `bash`.
    pub(super) path: Vec<String>,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

impl std::fmt::Display for ValueChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<Value>| shown(value.as_ref()).unwrap_or("(none)".to_owned());
        let (old, new) = (text(&self.old), text(&self.new));
        write!(f, "`{}`: {old} → {new}", self.path.join("."))
    }
}

/// A value as text; `None` for none.
pub(super) fn shown(value: Option<&Value>) -> Option<String> {
    Some(match value? {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Object(_) | Value::Array(_) => "(some)".to_owned(),
        other => other.to_string(),
    })
}

/// All changes, in the order of the new document. Below a part that is new they are told one by one.
pub(super) fn changes(old: Option<&Value>, new: Option<&Value>) -> Vec<ValueChange> {
    let mut found = Vec::new();
    walk(&[], old, new, &mut found);
    found
}

fn walk(path: &[String], old: Option<&Value>, new: Option<&Value>, found: &mut Vec<ValueChange>) {
    let is_object = |value: Option<&Value>| value.is_none_or(Value::is_object);
    if old == new {
        return;
    }
    if !is_object(old) || !is_object(new) {
        found.push(ValueChange {
            path: path.to_vec(),
            old: old.cloned(),
            new: new.cloned(),
        });
        return;
    }
    let (old, new) = (
        old.and_then(Value::as_object),
        new.and_then(Value::as_object),
    );
    let keys = new.into_iter().flat_map(|new| new.keys());
    let gone = old.into_iter().flat_map(|old| old.keys());
    let gone = gone.filter(|key| new.is_none_or(|new| !new.contains_key(*key)));
    for key in keys.chain(gone) {
        let mut path = path.to_vec();
        path.push(key.clone());
        let of = |value: Option<&'_ serde_json::Map<String, Value>>| value?.get(key).cloned();
        walk(&path, of(old).as_ref(), of(new).as_ref(), found);
    }
}
