//! The subscriber: it keeps the open spans, and hands on each event with those that it is in.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use avocado_text::escape;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{SetGlobalDefaultError, Subscriber, set_global_default};
use tracing::{Event, Level, Metadata};

use crate::fields::Fields;
use crate::filter::LogFilter;
#[cfg(unix)]
use crate::journal::JournalSocket;

/// Where events go.
pub enum LogOutput {
    /// To people, one line at a time.
    Lines(Box<dyn Fn(&str) + Send + Sync>),
    /// To the journal with their fields; in lines, each with a priority that journald reads, where
    /// the journal does not take one.
    #[cfg(unix)]
    Journal(JournalSocket, Box<dyn Fn(&str) + Send + Sync>),
}

/// From now on, in every thread, what `filter` records goes to `output`.
///
/// # Errors
/// When the process has a subscriber already.
pub fn install(filter: LogFilter, output: LogOutput) -> Result<(), SetGlobalDefaultError> {
    set_global_default(LogSubscriber {
        filter,
        output,
        next_id: AtomicU64::new(1),
        spans: Mutex::default(),
    })
}

struct LogSubscriber {
    filter: LogFilter,
    output: LogOutput,
    next_id: AtomicU64,
    spans: Mutex<HashMap<u64, OpenSpan>>,
}

struct OpenSpan {
    name: &'static str,
    fields: Fields,
    parent: Option<u64>,
    handles: usize,
}

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn innermost() -> Option<u64> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

impl LogSubscriber {
    fn spans(&self) -> MutexGuard<'_, HashMap<u64, OpenSpan>> {
        // The map is whole between any two statements.
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names and the fields of a span and of those around it, the outermost first.
    fn context(&self, mut span: Option<u64>) -> Vec<(&'static str, Fields)> {
        let spans = self.spans();
        let mut context = Vec::new();
        while let Some(open) = span.and_then(|id| spans.get(&id)) {
            context.push((open.name, open.fields.clone()));
            span = open.parent;
        }
        context.reverse();
        context
    }
}

impl Subscriber for LogSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.records(metadata.target(), *metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter.most())
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = if attributes.is_contextual() {
            innermost()
        } else {
            attributes.parent().map(Id::into_u64)
        };
        let mut spans = self.spans();
        // A span stays as long as one in it is open.
        if let Some(parent) = parent.and_then(|id| spans.get_mut(&id)) {
            parent.handles += 1;
        }
        spans.insert(
            id,
            OpenSpan {
                name: attributes.metadata().name(),
                fields,
                parent,
                handles: 1,
            },
        );
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        if let Some(open) = self.spans().get_mut(&span.into_u64()) {
            values.record(&mut open.fields);
        }
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = if event.is_contextual() {
            innermost()
        } else {
            event.parent().map(Id::into_u64)
        };
        let context = self.context(span);
        let metadata = event.metadata();
        match &self.output {
            LogOutput::Lines(write) => write(&line(metadata, &fields, &context)),
            #[cfg(unix)]
            LogOutput::Journal(journal, write) => {
                let priority = priority(*metadata.level());
                let named = context.iter().flat_map(|(_, fields)| &fields.named);
                let named = named.chain(&fields.named);
                let named = named.map(|(name, value)| (*name, value.as_str()));
                let all = std::iter::once(("target", metadata.target())).chain(named);
                if journal.send(priority, &fields.message, all).is_err() {
                    write(&format!(
                        "<{priority}>{}",
                        line(metadata, &fields, &context)
                    ));
                }
            }
        }
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        let id = span.into_u64();
        ENTERED.with_borrow_mut(|entered| {
            // Guards may be dropped in any order.
            if let Some(at) = entered.iter().rposition(|open| *open == id) {
                entered.remove(at);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(open) = self.spans().get_mut(&span.into_u64()) {
            open.handles += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut spans = self.spans();
        let mut closing = Some(span.into_u64());
        let mut closed = false;
        while let Some(id) = closing {
            let Some(open) = spans.get_mut(&id) else {
                break;
            };
            open.handles -= 1;
            if open.handles > 0 {
                break;
            }
            closing = spans.remove(&id).and_then(|open| open.parent);
            closed = true;
        }
        closed
    }
}

/// The priority of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// An event for people. What is for every user is the message alone; what is for one who looks
/// for a fault says where it comes from, its fields, and the spans that it is in.
fn line(metadata: &Metadata<'_>, fields: &Fields, context: &[(&str, Fields)]) -> String {
    let level = *metadata.level();
    let mut line = match level {
        Level::ERROR => "error: ".to_owned(),
        Level::WARN => "warning: ".to_owned(),
        Level::INFO => String::new(),
        Level::DEBUG => format!("debug {}: ", metadata.target()),
        _ => format!("trace {}: ", metadata.target()),
    };
    line.push_str(&escape(&fields.message));
    push_fields(&mut line, fields);
    if level >= Level::DEBUG {
        for (name, fields) in context {
            line.push_str(&format!(" [{name}"));
            push_fields(&mut line, fields);
            line.push(']');
        }
    }
    line
}

fn push_fields(line: &mut String, fields: &Fields) {
    for (name, value) in &fields.named {
        line.push_str(&format!(" {name}={}", escape(value)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The lines of what `work` records.
    fn lines(filter: &str, work: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = lines.clone();
        let subscriber = LogSubscriber {
            filter: filter.parse().unwrap(),
            output: LogOutput::Lines(Box::new(move |line| {
                written.lock().unwrap().push(line.to_owned());
            })),
            next_id: AtomicU64::new(1),
            spans: Mutex::default(),
        };
        tracing::subscriber::with_default(subscriber, work);
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    fn work() {
        let outer = tracing::info_span!("command", name = "build").entered();
        tracing::info!("hello\u{1b}[2J");
        let inner = tracing::debug_span!("step", stage = %"ext a");
        drop(outer);
        let _entered = inner.entered();
        tracing::debug!(status = 200, "answered");
        tracing::warn!(why = "x y", "odd");
    }

    #[test]
    fn events_say_what_they_are_in() {
        assert_eq!(
            lines("debug", work),
            [
                "hello\\u{1b}[2J",
                "debug avocado_log::subscriber::tests: answered status=200 [command name=build] \
                 [step stage=ext a]",
                "warning: odd why=x y",
            ]
        );
        assert_eq!(lines("info", work).len(), 2);
        assert_eq!(
            lines("off,avocado_log=warn", work),
            ["warning: odd why=x y"]
        );
        assert!(lines("off", work).is_empty());
    }

    #[test]
    fn closed_spans_are_forgotten() {
        let subscriber = Arc::new(LogSubscriber {
            filter: LogFilter::up_to(Level::TRACE),
            output: LogOutput::Lines(Box::new(|_| {})),
            next_id: AtomicU64::new(1),
            spans: Mutex::default(),
        });
        tracing::subscriber::with_default(subscriber.clone(), || {
            work();
            assert!(subscriber.spans().is_empty());
        });
    }
}
