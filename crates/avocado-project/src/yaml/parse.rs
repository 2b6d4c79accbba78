use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span as ParserSpan, StrInput, Tag};

use super::tree::{Entry, Key, Node, Scalar, Style, Value};
use crate::report::Report;
use crate::source::{FileId, Span, line};
use crate::text::quoted;

/// The largest file that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// The deepest nesting; everything later may recurse over the tree.
const MAX_DEPTH: usize = 64;

/// The largest tree, in units of [`weight`], after the expansion of aliases.
const MAX_WEIGHT: usize = 500_000;

/// Reads the YAML document of a file. What is wrong is added to the report, and `None` returned.
pub(crate) fn parse(file: FileId, report: &mut Report) -> Option<Node> {
    let text = &report.file(file).text;
    let read = match unfinished_merge(file, text) {
        // Within brackets the marks would be text.
        Some(merge) if merge.is_whole => Err(merge.mistake()),
        // Somebody removed some of them.
        Some(merge) => {
            let read = TreeBuilder::new(file, text).run();
            read.map_err(|_| merge.mistake())
        }
        None => TreeBuilder::new(file, text).run(),
    };
    match read {
        Ok(node) => Some(node),
        Err(mistake) => {
            let diagnostic = report.error(mistake.span, mistake.message);
            if let Some(hint) = mistake.hint {
                diagnostic.hint(hint);
            }
            None
        }
    }
}

/// The marks that git leaves where a merge is not finished.
struct UnfinishedMerge {
    first: Span,
    /// Both the first and the last mark of a place are there: no text has them like that.
    is_whole: bool,
}

impl UnfinishedMerge {
    fn mistake(self) -> Mistake {
        let message = "this is the mark of a merge that was not finished";
        Mistake::new(self.first, message).hint(
            "choose what is to stay of the two sides, and remove the lines that begin with \
             `<<<<<<<`, `=======` and `>>>>>>>`",
        )
    }
}

fn unfinished_merge(file: FileId, text: &str) -> Option<UnfinishedMerge> {
    const MARKS: [&str; 3] = ["<<<<<<<", "=======", ">>>>>>>"];
    let mut marks = Vec::new();
    let mut start = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let mark = MARKS.into_iter().find(|mark| {
            let rest = line.strip_prefix(mark);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r', '\n']))
        });
        if let Some(mark) = mark {
            let end = start + mark.len();
            let column = 1;
            marks.push((
                mark,
                Span {
                    file,
                    line: number,
                    column,
                    start,
                    end,
                },
            ));
        }
        start += line.len();
    }
    let at = |wanted: &str| marks.iter().position(|(mark, _)| *mark == wanted);
    let is_whole = at(MARKS[0]).is_some_and(|from| at(MARKS[2]).is_some_and(|to| from < to));
    let (_, first) = marks.first()?;
    let first = *first;
    Some(UnfinishedMerge { first, is_whole })
}

struct Mistake {
    span: Span,
    message: String,
    hint: Option<String>,
}

impl Mistake {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Mistake {
            span,
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A collection that is not complete yet.
enum OpenCollection {
    Sequence(Vec<Node>),
    Mapping(OpenMapping),
}

#[derive(Default)]
struct OpenMapping {
    entries: Vec<Entry>,
    seen: HashMap<String, Span>,
    /// The key whose value comes next.
    key: Option<Key>,
    /// The mappings of `<<`.
    merged: Vec<Entry>,
}

struct Frame {
    open: OpenCollection,
    span: Span,
    anchor: usize,
}

struct TreeBuilder<'t> {
    file: FileId,
    text: &'t str,
    /// Byte offset of each character, where that is not the same number.
    offsets: Option<Vec<usize>>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    weight: usize,
    root: Option<Node>,
}

impl<'t> TreeBuilder<'t> {
    fn new(file: FileId, text: &'t str) -> Self {
        let offsets = (!text.is_ascii()).then(|| {
            let ends = std::iter::once(text.len());
            text.char_indices().map(|(at, _)| at).chain(ends).collect()
        });
        TreeBuilder {
            file,
            text,
            offsets,
            stack: Vec::new(),
            anchors: HashMap::new(),
            weight: 0,
            root: None,
        }
    }

    fn run(mut self) -> Result<Node, Mistake> {
        let mut parser: Parser<'t, StrInput<'t>> = Parser::new_from_str(self.text);
        let mut documents = 0;
        while let Some(next) = parser.next_event() {
            let (event, place) = next.map_err(|e| self.syntax(*e.marker(), e.info()))?;
            let span = self.span(place);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Mistake::new(span, "a second YAML document starts here")
                            .hint("avocado.yaml holds one document; remove the `---`"));
                    }
                }
                Event::Alias(id) => self.alias(id, span)?,
                Event::Scalar(text, style, anchor, tag) => {
                    let style = match style {
                        ScalarStyle::Plain => Style::Plain,
                        _ => Style::Quoted,
                    };
                    let style = tagged(tag.as_deref(), span)?.unwrap_or(style);
                    let text = text.into_owned();
                    let value = Value::Scalar(Scalar { text, style });
                    self.complete(Node { value, span }, anchor)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    tagged(tag.as_deref(), span)?;
                    self.open(OpenCollection::Sequence(Vec::new()), span, anchor)?;
                }
                Event::MappingStart(anchor, tag) => {
                    tagged(tag.as_deref(), span)?;
                    self.open(
                        OpenCollection::Mapping(OpenMapping::default()),
                        span,
                        anchor,
                    )?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        // An empty file is null.
        Ok(self.root.unwrap_or(Node {
            value: Value::Scalar(Scalar {
                text: String::new(),
                style: Style::Plain,
            }),
            span: Span {
                file: self.file,
                line: 1,
                column: 1,
                start: 0,
                end: 0,
            },
        }))
    }

    fn open(&mut self, open: OpenCollection, span: Span, anchor: usize) -> Result<(), Mistake> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        if self.expects_key() {
            let template = self
                .text
                .get(..span.start)
                .is_some_and(|before| before.ends_with('{'));
            let mistake = Mistake::new(span, "a key must be text, not a map or a list");
            return Err(if template {
                mistake.hint("put quotes around a value that holds a template: \"{{ … }}\"")
            } else {
                mistake
            });
        }
        self.stack.push(Frame { open, span, anchor });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Mistake> {
        let Some(frame) = self.stack.pop() else {
            return Err(Mistake::new(end, "this ends something that did not start"));
        };
        let value = match frame.open {
            OpenCollection::Sequence(items) => Value::Sequence(items),
            OpenCollection::Mapping(map) => Value::Mapping(map.finish()),
        };
        let mut span = frame.span;
        span.end = end.end.max(span.start);
        self.complete(Node { value, span }, frame.anchor)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Mistake> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(Mistake::new(
                span,
                "this alias refers to something that it is a part of",
            ));
        };
        if self.stack.len() + height(node) > MAX_DEPTH {
            return Err(too_deep(span));
        }
        // Weighed before it is copied: aliases of aliases grow exponentially.
        if self.weight + weight(node) > MAX_WEIGHT {
            return Err(too_large(span));
        }
        let node = node.clone();
        self.add(&node, span)?;
        self.place(node, span)
    }

    /// A node is complete: remembers it under its anchor and puts it where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        let span = node.span;
        // The parts of a collection were counted when they were complete.
        self.weight += own_weight(&node);
        if self.weight > MAX_WEIGHT {
            return Err(too_large(span));
        }
        if anchor != 0 {
            self.add(&node, span)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node, span)
    }

    fn add(&mut self, copy: &Node, span: Span) -> Result<(), Mistake> {
        self.weight += weight(copy);
        if self.weight > MAX_WEIGHT {
            return Err(too_large(span));
        }
        Ok(())
    }

    /// `at` is where it stands, for an alias not where it was written.
    fn place(&mut self, node: Node, at: Span) -> Result<(), Mistake> {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.open {
            OpenCollection::Sequence(items) => {
                items.push(node);
                Ok(())
            }
            OpenCollection::Mapping(map) => match map.key.take() {
                Some(key) => map.value(key, node, at),
                None => map.key(node, at),
            },
        }
    }

    fn expects_key(&self) -> bool {
        matches!(
            self.stack.last(),
            Some(Frame { open: OpenCollection::Mapping(map), .. }) if map.key.is_none()
        )
    }

    fn syntax(&self, marker: Marker, info: &str) -> Mistake {
        let span = self.span(ParserSpan::empty(marker));
        let mistake = Mistake::new(span, format!("this is not valid YAML: {info}"));
        let from = line::start(self.text, span.start);
        let line = self.text.get(from..span.start).unwrap_or_default();
        if line.starts_with('\t')
            || self
                .text
                .get(span.start..)
                .is_some_and(|t| t.starts_with('\t'))
        {
            mistake.hint("indent with spaces; YAML does not allow tabs there")
        } else if line.contains("{{") {
            mistake.hint("put quotes around a value that holds a template: \"{{ … }}\"")
        } else {
            mistake
        }
    }

    fn span(&self, place: ParserSpan) -> Span {
        let byte = |index: usize| match &self.offsets {
            Some(offsets) => offsets.get(index).copied().unwrap_or(self.text.len()),
            None => index.min(self.text.len()),
        };
        let (start, end) = (byte(place.start.index()), byte(place.end.index()));
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span {
            file: self.file,
            line: number(place.start.line()),
            column: number(place.start.col()).saturating_add(1),
            start,
            end: end.max(start),
        }
    }
}

impl OpenMapping {
    fn key(&mut self, node: Node, at: Span) -> Result<(), Mistake> {
        let Value::Scalar(scalar) = node.value else {
            return Err(Mistake::new(at, "a key must be text, not a map or a list"));
        };
        if scalar.text.is_empty() {
            return Err(Mistake::new(at, "a key is empty"));
        }
        let merge = scalar.style == Style::Plain && scalar.text == "<<";
        if !merge && let Some(first) = self.seen.insert(scalar.text.clone(), at) {
            let text = quoted(&scalar.text);
            let line = first.line;
            return Err(Mistake::new(
                at,
                format!("{text} is given twice; first on line {line}"),
            ));
        }
        self.key = Some(Key {
            text: scalar.text,
            span: at,
        });
        Ok(())
    }

    fn value(&mut self, key: Key, node: Node, at: Span) -> Result<(), Mistake> {
        // A key `<<` that is text (quoted) was entered in `seen`; the merge key was not.
        if key.text != "<<" || self.seen.contains_key("<<") {
            self.entries.push(Entry { key, value: node });
            return Ok(());
        }
        let sources = match node.value {
            Value::Sequence(items) => items,
            value => vec![Node { value, ..node }],
        };
        for source in sources {
            match source.value {
                Value::Mapping(entries) => self.merged.extend(entries),
                _ => return Err(Mistake::new(at, "`<<` takes a map or a list of maps")),
            }
        }
        Ok(())
    }

    /// What was written comes before what `<<` adds; of two merged ones the first wins.
    fn finish(self) -> Vec<Entry> {
        let mut entries = self.entries;
        let mut seen: HashSet<String> = self.seen.into_keys().collect();
        for entry in self.merged {
            if seen.insert(entry.key.text.clone()) {
                entries.push(entry);
            }
        }
        entries
    }
}

/// Tags that say what is meant without them as well.
const PLAIN_TAGS: [&str; 7] = ["str", "int", "float", "bool", "null", "seq", "map"];

/// The style that a tag asks for. Tags that could change the meaning are refused.
fn tagged(tag: Option<&Tag>, span: Span) -> Result<Option<Style>, Mistake> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && PLAIN_TAGS.contains(&tag.suffix.as_str()) => {
            Ok((tag.suffix == "str").then_some(Style::Quoted))
        }
        // The bare `!` says "not plain".
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Some(Style::Quoted)),
        Some(tag) => {
            let tag = if tag.is_yaml_core_schema() {
                quoted(&format!("!!{}", tag.suffix))
            } else {
                quoted(&tag.to_string())
            };
            Err(Mistake::new(
                span,
                format!("the tag {tag} is not supported"),
            ))
        }
        None => Ok(None),
    }
}

fn too_deep(span: Span) -> Mistake {
    Mistake::new(
        span,
        format!("this is nested more than {MAX_DEPTH} levels deep"),
    )
}

fn too_large(span: Span) -> Mistake {
    Mistake::new(span, "the document is too large here")
        .hint("it has too many values, or aliases that multiply")
}

fn own_weight(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar(scalar) => scalar.text.len() / 32,
        Value::Sequence(_) => 0,
        Value::Mapping(entries) => entries.iter().map(|e| 1 + e.key.text.len() / 32).sum(),
    }
}

/// One for each value and key, and one for each 32 bytes of text.
fn weight(node: &Node) -> usize {
    let parts: usize = match &node.value {
        Value::Scalar(_) => 0,
        Value::Sequence(items) => items.iter().map(weight).sum(),
        Value::Mapping(entries) => entries.iter().map(|e| weight(&e.value)).sum(),
    };
    own_weight(node) + parts
}

fn height(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 0,
        Value::Sequence(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Value::Mapping(entries) => 1 + entries.iter().map(|e| height(&e.value)).max().unwrap_or(0),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
