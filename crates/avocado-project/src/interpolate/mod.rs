//! `{{ expr }}` in every text and every key.
//!
//! What an expression stands for may hold expressions itself; they are resolved as well, and an
//! expression that leads back to itself is an error. Text that did not come out of an expression
//! is looked at once: braces that only meet after a replacement are not an expression.

mod context;
mod reference;
mod templates;

use std::collections::HashSet;

use crate::report::Report;
use crate::source::{FileId, Span, line};
use crate::text::quoted;
use crate::yaml::{Entry, Key, Node, Scalar, Style, Value};

pub(crate) use context::InterpolationContext;
use reference::Reference;
pub(crate) use reference::value_of_config;
pub use templates::{FilledText, Templates};

/// The longest chain of expressions within expressions.
const MAX_CHAIN: usize = 32;
/// The most expressions that are resolved for one file.
const MAX_STEPS: usize = 10_000;
/// The most text that comes out of expressions, in bytes.
const MAX_OUTPUT: usize = 8 << 20;

/// Resolves every expression of the tree, keys first. What is wrong is added to the report; the
/// text it is in stays as it is.
pub(crate) fn interpolate(
    root: Node,
    context: &InterpolationContext<'_>,
    report: &mut Report,
) -> Node {
    let keyed = {
        let mut interpolator = Interpolator::new(&root, context, report);
        interpolator.tree(&root, Pass::Keys)
    };
    let mut interpolator = Interpolator::new(&keyed, context, report);
    interpolator.tree(&keyed, Pass::Values)
}

/// The text at `path`, resolved, where there is text. For the few values that are needed before
/// the tree as a whole is resolved; mistakes are left for then.
pub(crate) fn peek(
    root: &Node,
    path: &[&str],
    context: &InterpolationContext<'_>,
    report: &Report,
) -> Option<String> {
    let node = path.iter().try_fold(root, |node, key| node.get(key))?;
    let mut scratch = report.scratch();
    let mut interpolator = Interpolator::new(root, context, &mut scratch);
    interpolator.node_text(node).ok()
}

/// The text of an expression or a key, resolved; `None` where that is not possible. Mistakes are
/// left for when the tree that it is in is resolved.
pub(crate) fn text(
    text: &str,
    root: &Node,
    context: &InterpolationContext<'_>,
    report: &Report,
) -> Option<String> {
    let mut scratch = report.scratch();
    let mut interpolator = Interpolator::new(root, context, &mut scratch);
    interpolator.outside(text, Span::default()).ok()
}

/// Resolves the expressions of a tree that other files were merged into. Those of the main file
/// are resolved already, and what they left is left again.
pub(crate) fn interpolate_merged(
    root: &mut Node,
    context: &InterpolationContext<'_>,
    report: &mut Report,
) {
    for pass in [Pass::Keys, Pass::Values] {
        let mut interpolator = Interpolator::new(root, context, report);
        interpolator.skip_main = true;
        *root = interpolator.tree(root, pass);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Keys,
    Values,
}

/// Where a text with expressions was written.
#[derive(Clone, Copy)]
struct TextOrigin {
    span: Span,
    /// The text is the source of the span, and not the value of a variable that is used there.
    written: bool,
}

/// How far the expressions of a text were found in its source. Each search goes on from there: of
/// thousands in one line none looks at what the others did.
struct SourceCursor {
    /// In the source of the text; the `{{` that was found last begins there.
    offset: usize,
    line: u32,
    column: u32,
    has_found: bool,
}

impl SourceCursor {
    fn new(text: Span) -> Self {
        SourceCursor {
            offset: 0,
            line: text.line,
            column: text.column,
            has_found: false,
        }
    }

    /// Goes to the next `{{`, and says where in the source that is.
    fn advance(&mut self, source: &str) -> Option<usize> {
        let passed = if self.has_found { "{{".len() } else { 0 };
        let rest = source.get(self.offset..)?;
        let further = passed + rest.get(passed..)?.find("{{")?;
        // From where the last one is, or the text begins, which may be in the middle of a line.
        (self.line, self.column) = match line::place(rest, further) {
            (1, column) => (self.line, self.column.saturating_add(column - 1)),
            (line, column) => (self.line.saturating_add(line - 1), column),
        };
        self.offset += further;
        self.has_found = true;
        Some(self.offset)
    }
}

/// An expression could not be resolved; it is in the report.
struct Unresolved;

struct Interpolator<'a, 'r> {
    root: &'a Node,
    context: &'a InterpolationContext<'a>,
    report: &'r mut Report,
    /// The expressions that are being resolved.
    chain: Vec<String>,
    /// Expressions that are known to lead back to themselves.
    circular: HashSet<String>,
    steps: usize,
    output: usize,
    /// A limit was reached; nothing more is resolved.
    stopped: bool,
    /// What the main file has stays as it is.
    skip_main: bool,
}

impl<'a, 'r> Interpolator<'a, 'r> {
    fn new(root: &'a Node, context: &'a InterpolationContext<'a>, report: &'r mut Report) -> Self {
        Interpolator {
            root,
            context,
            report,
            chain: Vec::new(),
            circular: HashSet::new(),
            steps: 0,
            output: 0,
            stopped: false,
            skip_main: false,
        }
    }

    fn tree(&mut self, node: &Node, pass: Pass) -> Node {
        let value = match &node.value {
            Value::Scalar(scalar) => Value::Scalar(self.scalar(scalar, node.span, pass)),
            Value::Sequence(items) => {
                Value::Sequence(items.iter().map(|item| self.tree(item, pass)).collect())
            }
            Value::Mapping(entries) => Value::Mapping(self.entries(entries, pass)),
        };
        Node {
            value,
            span: node.span,
        }
    }

    fn entries(&mut self, entries: &[Entry], pass: Pass) -> Vec<Entry> {
        let mut seen = HashSet::new();
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = match pass {
                Pass::Keys => self.key(&entry.key),
                Pass::Values => entry.key.clone(),
            };
            if !seen.insert(key.text.clone()) {
                let text = quoted(&key.text);
                let message = format!("{text} is given twice once its template is resolved");
                self.report.error(key.span, message);
                continue;
            }
            let value = self.tree(&entry.value, pass);
            out.push(Entry { key, value });
        }
        out
    }

    fn key(&mut self, key: &Key) -> Key {
        let resolved = self.written(&key.text, key.span);
        Key {
            text: resolved.unwrap_or_else(|Unresolved| key.text.clone()),
            span: key.span,
        }
    }

    fn scalar(&mut self, scalar: &Scalar, span: Span, pass: Pass) -> Scalar {
        if pass == Pass::Keys || !scalar.text.contains("{{") {
            return scalar.clone();
        }
        match self.written(&scalar.text, span) {
            Ok(text) if text != scalar.text => Scalar {
                text,
                style: Style::Template,
            },
            _ => scalar.clone(),
        }
    }

    /// Resolves text that stands in the file at `span`.
    fn written(&mut self, text: &str, span: Span) -> Result<String, Unresolved> {
        if self.skip_main && span.file == FileId::MAIN {
            return Ok(text.to_owned());
        }
        let written = true;
        self.text(text, TextOrigin { span, written })
    }

    fn text(&mut self, text: &str, origin: TextOrigin) -> Result<String, Unresolved> {
        let mut out = String::new();
        let mut rest = text;
        let mut failed = false;
        let mut cursor = SourceCursor::new(origin.span);
        while let Some((before, after)) = rest.split_once("{{") {
            out.push_str(before);
            let at = self.locate(origin, &mut cursor);
            let Some((inner, tail)) = after.split_once("}}") else {
                self.unclosed(at, after);
                return Err(Unresolved);
            };
            if inner.contains("{{") {
                self.unclosed(at, inner);
                return Err(Unresolved);
            }
            rest = tail;
            match self.expression(inner.trim(), at) {
                Ok(Some(value)) => out.push_str(&value),
                Ok(None) => {
                    out.push_str("{{");
                    out.push_str(inner);
                    out.push_str("}}");
                }
                // Go on: the other expressions of the text may be wrong as well.
                Err(Unresolved) => failed = true,
            }
            self.bound(out.len(), at)?;
        }
        out.push_str(rest);
        self.output = self.output.saturating_add(out.len());
        if failed { Err(Unresolved) } else { Ok(out) }
    }

    fn unclosed(&mut self, at: Span, after: &str) {
        let shown: String = after.trim().chars().take(40).collect();
        let message = if shown.is_empty() {
            "`{{` is not closed".to_owned()
        } else {
            format!("`{{{{` is not closed: {}", quoted(&format!("{{{{ {shown}")))
        };
        self.report
            .error(at, message)
            .hint("an expression ends with `}}`");
    }

    /// The text of one expression; `None` where it is to stay as it is.
    fn expression(&mut self, expr: &str, at: Span) -> Result<Option<String>, Unresolved> {
        self.steps += 1;
        self.bound(0, at)?;
        if self.circular.contains(expr) {
            return Err(Unresolved);
        }
        if let Some(first) = self.chain.iter().position(|e| e == expr) {
            let round = self.chain.iter().skip(first).cloned();
            let round: Vec<String> = round.chain([expr.to_owned()]).collect();
            let chain = round.join(" → ");
            self.report
                .error(at, format!("circular reference: {chain}"));
            self.circular.extend(round);
            return Err(Unresolved);
        }
        if self.chain.len() >= MAX_CHAIN {
            let message = format!("{} leads through too many references", quoted(expr));
            self.report.error(at, message);
            return Err(Unresolved);
        }
        self.chain.push(expr.to_owned());
        let value = self.value(expr, at);
        self.chain.pop();
        value
    }

    fn bound(&mut self, more: usize, at: Span) -> Result<(), Unresolved> {
        if self.stopped {
            return Err(Unresolved);
        }
        if self.steps > MAX_STEPS || self.output.saturating_add(more) > MAX_OUTPUT {
            self.stopped = true;
            self.report
                .error(at, "the templates of this file produce too much text")
                .hint("references that refer to each other repeatedly multiply");
            return Err(Unresolved);
        }
        Ok(())
    }

    /// Where the next `{{` of a text stands in the file.
    fn locate(&self, origin: TextOrigin, cursor: &mut SourceCursor) -> Span {
        let span = origin.span;
        if !origin.written {
            return span;
        }
        let file = self.report.file(span.file);
        let source = file.text.get(span.start..span.end);
        let Some((source, offset)) = source.and_then(|s| Some((s, cursor.advance(s)?))) else {
            return span;
        };
        let SourceCursor { line, column, .. } = *cursor;
        let length = source
            .get(offset..)
            .and_then(|expression| expression.find("}}"))
            .map_or_else(
                // To the end of the text, without its quote.
                || {
                    source
                        .trim_end_matches(['"', '\''])
                        .len()
                        .saturating_sub(offset)
                },
                |close| close + 2,
            );
        Span {
            file: span.file,
            line,
            column,
            start: span.start + offset,
            end: span.start + offset + length,
        }
    }

    /// The text that an expression stands for; `None` where it is to stay as it is.
    fn value(&mut self, expr: &str, at: Span) -> Result<Option<String>, Unresolved> {
        match reference::find(expr, self.root, self.context) {
            Reference::BoardOf(runtime) => {
                let runtime = runtime.map(|name| self.outside(&name, at)).transpose()?;
                let board = reference::board(runtime.as_deref(), self.root, self.context);
                self.referred(board, expr, at)
            }
            other => self.referred(other, expr, at),
        }
    }

    fn referred(
        &mut self,
        reference: Reference<'_>,
        expr: &str,
        at: Span,
    ) -> Result<Option<String>, Unresolved> {
        match reference {
            Reference::Node(node) => self.node_text(node).map(Some),
            Reference::Outside(text) => self.outside(&text, at).map(Some),
            // A task of the build fills in what is late.
            Reference::Late | Reference::Unstated | Reference::BoardOf(_) => Ok(None),
            Reference::UnsetVariable(name) => {
                let message = format!("the environment variable {} is not set", quoted(name));
                self.report
                    .warning(at, message)
                    .hint("empty text takes its place");
                Ok(Some(String::new()))
            }
            Reference::Unknown { hint } => {
                let message = format!("{} is not an expression; it stays as it is", quoted(expr));
                let diagnostic = self.report.warning(at, message);
                if let Some(hint) = hint {
                    diagnostic.hint(hint);
                }
                Ok(None)
            }
            Reference::Broken { message, hint } => {
                let diagnostic = self.report.error(at, message);
                if let Some(hint) = hint {
                    diagnostic.hint(hint);
                }
                Err(Unresolved)
            }
        }
    }

    /// The resolved text of a node; empty where it is not text.
    fn node_text(&mut self, node: &Node) -> Result<String, Unresolved> {
        self.written(node.as_text().unwrap_or_default(), node.span)
    }

    /// Resolves text that is not from the file but is used at `at`.
    fn outside(&mut self, text: &str, at: Span) -> Result<String, Unresolved> {
        let written = false;
        self.text(text, TextOrigin { span: at, written })
    }
}

#[cfg(test)]
mod tests;
