//! What the expressions stand for.

use super::{Failed, Origin, Resolver};
use crate::diagnostic::quoted;
use crate::suggest;
use crate::yaml::{Node, Span};

/// Every `avocado.` expression, without the fields of extensions.
const AVOCADO: [&str; 7] = [
    "target",
    "target.board",
    "runtime",
    "distro.release",
    "distro.version",
    "distro.channel",
    "kernel.version",
];

impl<'a> Resolver<'a, '_, '_> {
    pub(super) fn value(&mut self, expr: &str, at: Span) -> Result<Option<String>, Failed> {
        if let Some(name) = expr.strip_prefix("env.") {
            self.env(name, at).map(Some)
        } else if let Some(path) = expr.strip_prefix("config.") {
            self.config(path, at).map(Some)
        } else if let Some(path) = expr.strip_prefix("avocado.") {
            self.avocado(path, expr, at)
        } else {
            self.unknown_namespace(expr, at);
            Ok(None)
        }
    }

    fn env(&mut self, name: &str, at: Span) -> Result<String, Failed> {
        let Some(value) = (self.context.env)(name) else {
            let message = format!("the environment variable {} is not set", quoted(name));
            self.report
                .warning(at, message)
                .hint("empty text takes its place");
            return Ok(String::new());
        };
        self.foreign(&value, at)
    }

    fn config(&mut self, path: &str, at: Span) -> Result<String, Failed> {
        let mut node: &'a Node = self.root;
        let mut walked = String::from("config");
        for key in path.split('.') {
            let Some(next) = node.get(key) else {
                let keys = node.entries().unwrap_or_default();
                let keys = keys.iter().map(|e| e.key.text.as_str());
                let hint = suggest::nearest(key, keys);
                let expr = quoted(&format!("config.{path}"));
                let key = quoted(key);
                let message = format!("{expr} does not exist: there is no {key} in `{walked}`");
                let diagnostic = self.report.error(at, message);
                if let Some(near) = hint {
                    diagnostic.hint(format!("did you mean `{walked}.{near}`?"));
                }
                return Err(Failed);
            };
            node = next;
            walked.push('.');
            walked.push_str(key);
        }
        if node.as_text().is_none() {
            let (expr, what) = (quoted(&walked), node.describe());
            let message = format!("{expr} is {what}; a template can only insert text");
            self.report.error(at, message);
            return Err(Failed);
        }
        self.node_text(node)
    }

    /// `None` where it is not known: then the expression stays.
    fn avocado(&mut self, path: &str, expr: &str, at: Span) -> Result<Option<String>, Failed> {
        match path {
            "target" => Ok(self.context.target.map(str::to_owned)),
            "target.board" => self.board(at),
            "runtime" => self.maybe_foreign(self.context.runtime(self.root), at),
            "distro.release" | "distro.version" => {
                match self.context.variable("AVOCADO_DISTRO_RELEASE") {
                    Some(release) => self.foreign(&release, at).map(Some),
                    None => match self.section_field(&["distro"], &["release"])? {
                        Some(release) => Ok(Some(release)),
                        None => self.section_field(&["distro"], &["version"]),
                    },
                }
            }
            "distro.channel" => match self.context.variable("AVOCADO_DISTRO_CHANNEL") {
                Some(channel) => self.foreign(&channel, at).map(Some),
                None => self.section_field(&["distro"], &["channel"]),
            },
            // Known only once the kernel package is chosen.
            "kernel.version" => Ok(None),
            _ if path.starts_with("extensions.") => {
                let path: Vec<&str> = path.split('.').collect();
                let (section, field) = path.split_at(path.len().min(2));
                self.section_field(section, field)
            }
            _ => {
                let near = suggest::nearest(path, AVOCADO);
                let diagnostic = self.unknown(expr, at);
                if let Some(near) = near {
                    diagnostic.hint(format!("did you mean `avocado.{near}`?"));
                }
                Ok(None)
            }
        }
    }

    fn board(&mut self, at: Span) -> Result<Option<String>, Failed> {
        if let Some(board) = self.context.variable("AVOCADO_TARGET_BOARD") {
            return self.foreign(&board, at).map(Some);
        }
        let runtime = self.maybe_foreign(self.context.runtime(self.root), at)?;
        if let Some(runtime) = runtime {
            for section in ["runtimes", "runtime"] {
                let board = self.section_field(&[section, &runtime], &["target_board"])?;
                if board.is_some() {
                    return Ok(board);
                }
            }
        }
        match self.field(&["default_target_board"])? {
            Some(board) => Ok(Some(board)),
            None => Ok(self.context.target.map(str::to_owned)),
        }
    }

    /// The text of a field of a section, for the current target, where there is text.
    fn section_field(
        &mut self,
        section: &[&str],
        field: &[&str],
    ) -> Result<Option<String>, Failed> {
        if let Some(target) = self.context.target {
            let over = format!("target-{target}");
            let over = self.field(&[section, &[over.as_str()], field].concat())?;
            if over.is_some() {
                return Ok(over);
            }
        }
        self.field(&[section, field].concat())
    }

    /// The text at a path of the file, where there is text.
    fn field(&mut self, path: &[&str]) -> Result<Option<String>, Failed> {
        let start: &'a Node = self.root;
        match path.iter().try_fold(start, |node, key| node.get(key)) {
            Some(node) if node.as_text().is_some() => self.node_text(node).map(Some),
            _ => Ok(None),
        }
    }

    /// The resolved text of a node; empty where it is not text.
    pub(super) fn node_text(&mut self, node: &Node) -> Result<String, Failed> {
        self.written(node.as_text().unwrap_or_default(), node.span)
    }

    /// Resolves text that is not from the file but is used at `at`.
    fn foreign(&mut self, text: &str, at: Span) -> Result<String, Failed> {
        let origin = Origin {
            span: at,
            written: false,
        };
        self.text(text, origin)
    }

    fn maybe_foreign(&mut self, text: Option<String>, at: Span) -> Result<Option<String>, Failed> {
        text.map(|text| self.foreign(&text, at)).transpose()
    }
}
