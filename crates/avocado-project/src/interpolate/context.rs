use crate::yaml::Node;

/// What expressions may refer to besides the file.
pub(crate) struct InterpolationContext<'a> {
    /// The environment.
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    /// The current target, once it is known.
    pub(crate) target: Option<&'a str>,
}

impl InterpolationContext<'_> {
    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// The runtime that commands act on: the environment, `default_runtime`, or the only one.
    /// The answer may hold expressions.
    pub(super) fn runtime(&self, root: &Node) -> Option<String> {
        if let Some(name) = self.variable("AVOCADO_RUNTIME") {
            return Some(name);
        }
        if let Some(name) = root.get("default_runtime").and_then(Node::as_text) {
            return Some(name.to_owned());
        }
        let runtimes = root.get("runtimes").or_else(|| root.get("runtime"))?;
        match runtimes.entries()? {
            [only] => Some(only.key.text.clone()),
            _ => None,
        }
    }
}
