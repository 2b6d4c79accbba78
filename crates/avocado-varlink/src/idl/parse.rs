use super::{Field, Interface, Method, Type};

/// An interface definition cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the interface definition: {what}")]
pub struct IdlError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

pub(super) fn interface(text: &str) -> Result<Interface, IdlError> {
    let mut p = Parser { text, at: 0 };
    p.keyword("interface")?;
    let name = p.word(is_interface_name, "an interface name")?.to_owned();
    let mut interface = Interface {
        name,
        text: text.to_owned(),
        types: Vec::new(),
        methods: Vec::new(),
        errors: Vec::new(),
    };
    let mut declared: Vec<String> = Vec::new();
    while p.peek().is_some() {
        let keyword = p.word(
            |w| matches!(w, "type" | "method" | "error"),
            "type, method or error",
        )?;
        let name = p
            .word(is_name, "a name that starts with a capital letter")?
            .to_owned();
        if declared.contains(&name) {
            return Err(p.error(format!("`{name}` is declared twice")));
        }
        declared.push(name.clone());
        match keyword {
            "type" => {
                let kind = p.group(0)?;
                interface.types.push((name, kind));
            }
            "method" => {
                let input = p.fields(0)?;
                p.symbol("->")?;
                let output = p.fields(0)?;
                interface.methods.push(Method {
                    name,
                    input,
                    output,
                });
            }
            _ => {
                let fields = p.fields(0)?;
                interface.errors.push((name, fields));
            }
        }
    }
    let types = interface.types.iter().map(|(_, t)| t);
    let fields = interface
        .methods
        .iter()
        .flat_map(|m| m.input.iter().chain(&m.output));
    let fields = fields
        .chain(interface.errors.iter().flat_map(|(_, f)| f))
        .map(|f| &f.kind);
    for kind in types.chain(fields) {
        if let Some(name) = undeclared(kind, &interface) {
            return Err(p.error(format!("the type `{name}` is not declared")));
        }
    }
    Ok(interface)
}

fn undeclared<'a>(kind: &'a Type, interface: &Interface) -> Option<&'a str> {
    match kind {
        Type::Named(name) => {
            let declared = interface.types.iter().any(|(n, _)| n == name);
            (!declared).then_some(name)
        }
        Type::Array(kind) | Type::Map(kind) | Type::Nullable(kind) => undeclared(kind, interface),
        Type::Struct(fields) => fields.iter().find_map(|f| undeclared(&f.kind, interface)),
        _ => None,
    }
}

/// Deeper nesting than any definition has.
const DEEPEST: usize = 32;

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, what: impl Into<String>) -> IdlError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        IdlError {
            line: before.matches('\n').count() + 1,
            what: what.into(),
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips white space and comments; the next character, if there is one.
    fn peek(&mut self) -> Option<char> {
        loop {
            let rest = self.rest();
            let next = rest.chars().next()?;
            if next == '#' {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if next.is_whitespace() || next == '\u{feff}' {
                self.at += next.len_utf8();
            } else {
                return Some(next);
            }
        }
    }

    fn try_symbol(&mut self, symbol: &str) -> bool {
        self.peek();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn symbol(&mut self, symbol: &str) -> Result<(), IdlError> {
        if self.try_symbol(symbol) {
            Ok(())
        } else {
            Err(self.error(format!("expected `{symbol}`")))
        }
    }

    fn word(&mut self, good: impl Fn(&str) -> bool, what: &str) -> Result<&'a str, IdlError> {
        self.peek();
        let rest = self.rest();
        let part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let word = rest.split(|c| !part(c)).next().unwrap_or_default();
        if !good(word) {
            return Err(self.error(format!("expected {what}")));
        }
        self.at += word.len();
        Ok(word)
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), IdlError> {
        self.word(|w| w == keyword, &format!("`{keyword}`"))
            .map(drop)
    }

    /// `( … )` with typed fields.
    fn fields(&mut self, depth: usize) -> Result<Vec<Field>, IdlError> {
        match self.group(depth)? {
            Type::Struct(fields) => Ok(fields),
            _ => Err(self.error("expected fields with types")),
        }
    }

    /// `( … )`: the fields of a structure or the names of an enumeration.
    fn group(&mut self, depth: usize) -> Result<Type, IdlError> {
        if depth > DEEPEST {
            return Err(self.error("nested too deeply"));
        }
        self.symbol("(")?;
        let (mut fields, mut names) = (Vec::<Field>::new(), Vec::<String>::new());
        if self.try_symbol(")") {
            return Ok(Type::Struct(fields));
        }
        loop {
            let name = self.word(is_field_name, "the name of a field")?.to_owned();
            if names.contains(&name) || fields.iter().any(|f| f.name == name) {
                return Err(self.error(format!("`{name}` is declared twice")));
            }
            if self.try_symbol(":") {
                let kind = self.kind(depth + 1)?;
                fields.push(Field { name, kind });
            } else {
                names.push(name);
            }
            if !fields.is_empty() && !names.is_empty() {
                return Err(self.error("some fields have a type and some have none"));
            }
            if self.try_symbol(")") {
                return Ok(if names.is_empty() {
                    Type::Struct(fields)
                } else {
                    Type::Enum(names)
                });
            }
            self.symbol(",")?;
        }
    }

    fn kind(&mut self, depth: usize) -> Result<Type, IdlError> {
        if depth > DEEPEST {
            return Err(self.error("nested too deeply"));
        }
        if self.try_symbol("?") {
            let kind = self.kind(depth + 1)?;
            return match kind {
                Type::Nullable(_) => Err(self.error("`??` is no type")),
                kind => Ok(Type::Nullable(Box::new(kind))),
            };
        }
        if self.try_symbol("[]") {
            return Ok(Type::Array(Box::new(self.kind(depth + 1)?)));
        }
        if self.try_symbol("[string]") {
            return Ok(Type::Map(Box::new(self.kind(depth + 1)?)));
        }
        if self.peek() == Some('(') {
            return self.group(depth + 1);
        }
        let known = |w: &str| {
            matches!(w, "bool" | "int" | "float" | "string" | "object" | "any") || is_name(w)
        };
        Ok(match self.word(known, "a type")? {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "float" => Type::Float,
            "string" => Type::String,
            "object" => Type::Object,
            "any" => Type::Any,
            name => Type::Named(name.to_owned()),
        })
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_field_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !word.ends_with('_')
        && !word.contains("__")
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_interface_name(word: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    word.contains('.')
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.split('.').all(part)
}
