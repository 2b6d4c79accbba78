//! `{{ expr }}` in every text and every key.
//!
//! What an expression stands for may hold expressions itself; they are resolved as well, and an
//! expression that leads back to itself is an error. Text that did not come out of an expression
//! is looked at once: braces that only meet after a replacement are not an expression.

mod context;
mod lookup;

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Report, quoted};
use crate::suggest;
use crate::yaml::{Entry, Key, Node, Scalar, Span, Style, Value, line};

pub(crate) use context::Context;

/// The longest chain of expressions within expressions.
const MAX_CHAIN: usize = 32;
/// The most expressions that are resolved for one file.
const MAX_STEPS: usize = 10_000;
/// The most text that comes out of expressions, in bytes.
const MAX_OUTPUT: usize = 8 << 20;

/// Resolves every expression of the tree, keys first. What is wrong is added to the report; the
/// text it is in stays as it is.
pub(crate) fn interpolate(root: Node, context: &Context<'_>, report: &mut Report<'_>) -> Node {
    let keyed = {
        let mut resolver = Resolver::new(&root, context, report);
        resolver.tree(&root, Part::Keys)
    };
    let mut resolver = Resolver::new(&keyed, context, report);
    resolver.tree(&keyed, Part::Values)
}

/// The text at `path`, resolved, where there is text. For the few values that are needed before
/// the tree as a whole is resolved; mistakes are left for then.
pub(crate) fn peek(
    root: &Node,
    path: &[&str],
    context: &Context<'_>,
    report: &Report<'_>,
) -> Option<String> {
    let node = path.iter().try_fold(root, |node, key| node.get(key))?;
    let mut scratch = report.scratch();
    let mut resolver = Resolver::new(root, context, &mut scratch);
    resolver.node_text(node).ok()
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Keys,
    Values,
}

/// Where a text with expressions was written.
#[derive(Clone, Copy)]
struct Origin {
    span: Span,
    /// The text is the source of the span, and not the value of a variable that is used there.
    written: bool,
}

/// An expression could not be resolved; it is in the report.
struct Failed;

struct Resolver<'a, 'r, 't> {
    root: &'a Node,
    context: &'a Context<'a>,
    report: &'r mut Report<'t>,
    /// The expressions that are being resolved.
    chain: Vec<String>,
    /// Expressions that are known to lead back to themselves.
    circular: HashSet<String>,
    steps: usize,
    output: usize,
    /// A limit was reached; nothing more is resolved.
    stopped: bool,
}

impl<'a, 'r, 't> Resolver<'a, 'r, 't> {
    fn new(root: &'a Node, context: &'a Context<'a>, report: &'r mut Report<'t>) -> Self {
        Resolver {
            root,
            context,
            report,
            chain: Vec::new(),
            circular: HashSet::new(),
            steps: 0,
            output: 0,
            stopped: false,
        }
    }

    fn tree(&mut self, node: &Node, part: Part) -> Node {
        let value = match &node.value {
            Value::Scalar(scalar) => Value::Scalar(self.scalar(scalar, node.span, part)),
            Value::Sequence(items) => {
                Value::Sequence(items.iter().map(|item| self.tree(item, part)).collect())
            }
            Value::Mapping(entries) => Value::Mapping(self.entries(entries, part)),
        };
        Node {
            value,
            span: node.span,
        }
    }

    fn entries(&mut self, entries: &[Entry], part: Part) -> Vec<Entry> {
        let mut seen = HashSet::new();
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = match part {
                Part::Keys => self.key(&entry.key),
                Part::Values => entry.key.clone(),
            };
            if !seen.insert(key.text.clone()) {
                let text = quoted(&key.text);
                let message = format!("{text} is given twice once its template is resolved");
                self.report.error(key.span, message);
                continue;
            }
            let value = self.tree(&entry.value, part);
            out.push(Entry { key, value });
        }
        out
    }

    fn key(&mut self, key: &Key) -> Key {
        let resolved = self.written(&key.text, key.span);
        Key {
            text: resolved.unwrap_or_else(|Failed| key.text.clone()),
            span: key.span,
        }
    }

    fn scalar(&mut self, scalar: &Scalar, span: Span, part: Part) -> Scalar {
        if part == Part::Keys || !scalar.text.contains("{{") {
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
    fn written(&mut self, text: &str, span: Span) -> Result<String, Failed> {
        let written = true;
        self.text(text, Origin { span, written })
    }

    fn text(&mut self, text: &str, origin: Origin) -> Result<String, Failed> {
        let mut out = String::new();
        let mut rest = text;
        let mut failed = false;
        let mut nth = 0;
        while let Some((before, after)) = rest.split_once("{{") {
            out.push_str(before);
            let at = self.locate(origin, nth);
            let Some((inner, tail)) = after.split_once("}}") else {
                self.unclosed(at, after);
                return Err(Failed);
            };
            if inner.contains("{{") {
                self.unclosed(at, inner);
                return Err(Failed);
            }
            nth += 1;
            rest = tail;
            match self.expression(inner.trim(), at) {
                Ok(Some(value)) => out.push_str(&value),
                Ok(None) => {
                    out.push_str("{{");
                    out.push_str(inner);
                    out.push_str("}}");
                }
                // Go on: the other expressions of the text may be wrong as well.
                Err(Failed) => failed = true,
            }
            self.bound(out.len(), at)?;
        }
        out.push_str(rest);
        self.output = self.output.saturating_add(out.len());
        if failed { Err(Failed) } else { Ok(out) }
    }

    fn unclosed(&mut self, at: Span, after: &str) {
        let shown: String = after.trim().chars().take(40).collect();
        let message = match shown.is_empty() {
            true => "`{{` is not closed".to_owned(),
            false => format!("`{{{{` is not closed: {}", quoted(&format!("{{{{ {shown}"))),
        };
        self.report
            .error(at, message)
            .hint("an expression ends with `}}`");
    }

    /// The text of one expression; `None` where it is to stay as it is.
    fn expression(&mut self, expr: &str, at: Span) -> Result<Option<String>, Failed> {
        self.steps += 1;
        self.bound(0, at)?;
        if self.circular.contains(expr) {
            return Err(Failed);
        }
        if let Some(first) = self.chain.iter().position(|e| e == expr) {
            let round = self.chain.iter().skip(first).cloned();
            let round: Vec<String> = round.chain([expr.to_owned()]).collect();
            let chain = round.join(" → ");
            self.report
                .error(at, format!("circular reference: {chain}"));
            self.circular.extend(round);
            return Err(Failed);
        }
        if self.chain.len() >= MAX_CHAIN {
            let message = format!("{} leads through too many references", quoted(expr));
            self.report.error(at, message);
            return Err(Failed);
        }
        self.chain.push(expr.to_owned());
        let value = self.value(expr, at);
        self.chain.pop();
        value
    }

    fn bound(&mut self, more: usize, at: Span) -> Result<(), Failed> {
        if self.stopped {
            return Err(Failed);
        }
        if self.steps > MAX_STEPS || self.output.saturating_add(more) > MAX_OUTPUT {
            self.stopped = true;
            self.report
                .error(at, "the templates of this file produce too much text")
                .hint("references that refer to each other repeatedly multiply");
            return Err(Failed);
        }
        Ok(())
    }

    /// Where the `nth` `{{` of a text stands in the file.
    fn locate(&self, origin: Origin, nth: usize) -> Span {
        let span = origin.span;
        let source = match origin.written {
            true => self.report.text().get(span.start..span.end),
            false => None,
        };
        let Some((source, (offset, _))) =
            source.and_then(|s| Some((s, s.match_indices("{{").nth(nth)?)))
        else {
            return span;
        };
        // From where the text begins, which is in the middle of a line.
        let (line, column) = match line::place(source, offset) {
            (1, column) => (span.line, span.column.saturating_add(column - 1)),
            (line, column) => (span.line.saturating_add(line - 1), column),
        };
        Span {
            line,
            column,
            start: span.start + offset,
            end: span.end,
        }
    }

    fn unknown(&mut self, expr: &str, at: Span) -> &mut Diagnostic {
        let message = format!("{} is not an expression; it stays as it is", quoted(expr));
        self.report.warning(at, message)
    }

    fn unknown_namespace(&mut self, expr: &str, at: Span) {
        let namespace = expr.split('.').next().unwrap_or_default();
        let near = suggest::nearest(namespace, ["env", "config", "avocado"]);
        let hint = match near {
            Some(near) => format!("did you mean `{near}.…`?"),
            None => "expressions start with `env.`, `config.` or `avocado.`".to_owned(),
        };
        self.unknown(expr, at).hint(hint);
    }
}

#[cfg(test)]
mod tests;
