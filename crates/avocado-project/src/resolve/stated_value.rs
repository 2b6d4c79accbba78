//! A value and who stated it: a variable of the environment, or a place of the project.

use crate::diagnostic::Diagnostic;
use crate::raw::Text;

use super::context::ResolveContext;

/// A value and who gave it.
pub(super) enum StatedValue {
    Env(&'static str, String),
    File(Text),
}

impl StatedValue {
    /// Of the first of these variables that is set.
    pub(super) fn of_environment(
        cx: &ResolveContext<'_>,
        names: &[&'static str],
    ) -> Option<StatedValue> {
        names
            .iter()
            .find_map(|name| Some(StatedValue::Env(name, cx.variable(name)?)))
    }

    pub(super) fn text(&self) -> &str {
        match self {
            StatedValue::Env(_, text) => text,
            StatedValue::File(text) => text,
        }
    }

    /// Whether it comes from the environment, by a variable of its own or through a template. A
    /// variable that one command needs is not there for all others.
    pub(super) fn is_of_environment(&self, cx: &ResolveContext<'_>) -> bool {
        match self {
            StatedValue::Env(..) => true,
            StatedValue::File(text) => cx.report.is_template(text.span),
        }
    }

    /// Reports what is wrong with it.
    pub(super) fn complain<'r>(
        &self,
        cx: &'r mut ResolveContext<'_>,
        what: &str,
    ) -> &'r mut Diagnostic {
        match self {
            StatedValue::Env(name, _) => cx.report.error(None, format!("{name}: {what}")),
            StatedValue::File(place) => cx.report.error(place.span, what),
        }
    }

    /// The same of a URL, whose line is not shown where it can have a password in it.
    pub(super) fn complain_of_url<'r>(
        &self,
        cx: &'r mut ResolveContext<'_>,
        what: &str,
    ) -> &'r mut Diagnostic {
        if self.text().contains('@') {
            self.complain_of_secret(cx, what)
        } else {
            self.complain(cx, what)
        }
    }

    /// The same of a secret, whose line is not shown.
    pub(super) fn complain_of_secret<'r>(
        &self,
        cx: &'r mut ResolveContext<'_>,
        what: &str,
    ) -> &'r mut Diagnostic {
        let complaint = self.complain(cx, what);
        complaint.snippet = None;
        complaint
    }

    /// What is wrong with a secret, for those who need it.
    pub(super) fn complaint_of_secret(&self, cx: &ResolveContext<'_>, what: &str) -> Diagnostic {
        let mut complaint = match self {
            StatedValue::Env(name, _) => {
                let place = cx.place(Default::default());
                place.error(format!("{name}: {what}"))
            }
            StatedValue::File(text) => cx.place(text.span).error(what),
        };
        complaint.snippet = None;
        complaint
    }
}
