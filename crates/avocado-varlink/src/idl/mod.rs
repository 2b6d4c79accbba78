//! Interface definitions: read once from their text, then used to answer introspection and to
//! check parameters.

mod check;
mod parse;

pub use parse::IdlError;

use crate::wire::Parameters;

/// An interface definition.
#[derive(Debug, Clone)]
pub struct Interface {
    name: String,
    text: String,
    types: Vec<(String, Type)>,
    methods: Vec<Method>,
    errors: Vec<(String, Vec<Field>)>,
}

#[derive(Debug, Clone)]
struct Method {
    name: String,
    input: Vec<Field>,
    output: Vec<Field>,
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    kind: Type,
}

#[derive(Debug, Clone)]
enum Type {
    Bool,
    Int,
    Float,
    String,
    Object,
    Any,
    Named(String),
    Struct(Vec<Field>),
    Enum(Vec<String>),
    Array(Box<Type>),
    Map(Box<Type>),
    Nullable(Box<Type>),
}

/// A value does not fit its declaration. Holds the name of the field, with the names of the
/// fields around it before it, separated by dots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the field `{0}` is missing, unknown or of the wrong type")]
pub struct ParameterMismatch(pub String);

impl Interface {
    /// Reads a definition.
    ///
    /// # Errors
    /// When the text does not follow the grammar, declares a name twice or uses an undeclared type.
    pub fn parse(text: &str) -> Result<Self, IdlError> {
        parse::interface(text)
    }

    /// The full name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The definition as it was read, with its comments.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of the methods, in the order of the definition.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().map(|m| m.name.as_str())
    }

    /// Whether the interface declares this method.
    pub fn has_method(&self, method: &str) -> bool {
        self.methods().any(|m| m == method)
    }

    /// Whether `parameters` can be passed to `method`.
    ///
    /// # Errors
    /// Names the first parameter that is missing, not declared, or of the wrong type.
    pub fn check_call(
        &self,
        method: &str,
        parameters: &Parameters,
    ) -> Result<(), ParameterMismatch> {
        let method = self.methods.iter().find(|m| m.name == method);
        check::fields(self, method.map(|m| m.input.as_slice()), parameters)
    }

    /// Whether `method` can return `parameters`.
    ///
    /// # Errors
    /// Names the first parameter that is missing, not declared, or of the wrong type.
    pub fn check_reply(
        &self,
        method: &str,
        parameters: &Parameters,
    ) -> Result<(), ParameterMismatch> {
        let method = self.methods.iter().find(|m| m.name == method);
        check::fields(self, method.map(|m| m.output.as_slice()), parameters)
    }

    /// Whether `error`, a name without the interface, is declared and carries `parameters`.
    ///
    /// # Errors
    /// Names the first parameter that is missing, not declared, or of the wrong type.
    pub fn check_error(
        &self,
        error: &str,
        parameters: &Parameters,
    ) -> Result<(), ParameterMismatch> {
        let error = self.errors.iter().find(|(name, _)| name == error);
        check::fields(self, error.map(|(_, fields)| fields.as_slice()), parameters)
    }
}

#[cfg(test)]
mod tests;
