//! What can be wrong with a configuration.

/// What is wrong with a configuration file, or with a change to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// It is no YAML document that can be worked with.
    #[error("this is not valid YAML: {0}")]
    Syntax(String),
    /// A value is not what its key takes.
    #[error("`{key}` is {found}, not {expected}")]
    Value {
        /// The dotted key.
        key: String,
        /// What stands there.
        found: String,
        /// What it takes.
        expected: String,
    },
    /// A text is no key.
    #[error("`{}` is no key: write words with dots between them, such as `idle.hibernate_after_secs`", .0.escape_debug())]
    Key(String),
    /// The file is written in a way that the change would damage.
    #[error("the way it is written does not allow this change ({0}); change it with an editor")]
    Unchangeable(String),
}
