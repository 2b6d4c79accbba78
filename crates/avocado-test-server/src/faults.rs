//! Faults on demand: what a bad network and a bad server do, when a test asks for it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// One way in which an answer goes wrong. Bytes are counted in the body of that answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The answer is this status, whatever is there.
    Status(u16),
    /// The connection ends after this many bytes, all of which arrive.
    Cut(u64),
    /// After this many bytes nothing more arrives until [`Faults::release`].
    Stall(u64),
    /// A `Range` header is ignored: the whole file is sent, with status 200.
    IgnoreRange,
    /// The byte at this place arrives with all its bits inverted.
    Corrupt(u64),
}

/// A [`Fault`] and the requests that it befalls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FaultRule {
    /// What happens.
    pub fault: Fault,
    /// Which paths: `*` stands for any characters, also `/`, and `?` for one. A pattern that ends
    /// in `/` means everything below; one without any `/` is compared with the file name alone.
    pub path: String,
    /// To how many requests, counted from when the rule was added; `None` is all of them.
    pub count: Option<u64>,
}

impl FaultRule {
    /// `fault` for every request for `path`.
    pub fn new(fault: Fault, path: impl Into<String>) -> Self {
        FaultRule {
            fault,
            path: path.into(),
            count: None,
        }
    }

    /// The same for the first `count` requests only.
    pub fn first(self, count: u64) -> Self {
        FaultRule {
            count: Some(count),
            ..self
        }
    }

    fn matches(&self, path: &str) -> bool {
        if !self.path.contains('/') {
            let name = path.rsplit('/').next().unwrap_or(path);
            glob(self.path.as_bytes(), name.as_bytes())
        } else if self.path.ends_with('/') {
            let mut below = self.path.clone();
            below.push('*');
            glob(below.as_bytes(), path.as_bytes())
        } else {
            glob(self.path.as_bytes(), path.as_bytes())
        }
    }
}

/// Whether `pattern` with its `*` and `?` describes all of `text`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where to resume when a guess about the last `*` fails: after it, with one character more.
    let mut retry = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                retry = Some((at_pattern + 1, at_text));
                at_pattern += 1;
                continue;
            }
            Some(b'?') => {}
            Some(byte) if text.get(at_text) == Some(byte) => {}
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    (at_pattern, at_text) = (after, from + 1);
                    continue;
                }
                None => return false,
            },
        }
        at_pattern += 1;
        at_text += 1;
    }
    pattern
        .get(at_pattern..)
        .is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// A rule in text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no fault: write 404@PATH, cut=BYTES@PATH, stall=BYTES@PATH, ignore-range@PATH \
     or corrupt=BYTE@PATH, with #COUNT behind it for the first COUNT requests"
)]
pub struct BadFaultRule(String);

/// `FAULT@PATH[#COUNT]`, for example `500@/2024/*#3`, `cut=1000@*.raw` or `ignore-range@*`.
impl FromStr for FaultRule {
    type Err = BadFaultRule;

    fn from_str(text: &str) -> Result<Self, BadFaultRule> {
        let bad = || BadFaultRule(text.to_owned());
        let (fault, place) = text.split_once('@').ok_or_else(bad)?;
        let (path, count) = match place.rsplit_once('#') {
            Some((path, count)) => (path, Some(count.parse().map_err(|_| bad())?)),
            None => (place, None),
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
        let fault = match fault.split_once('=') {
            Some(("cut", bytes)) => Fault::Cut(number(bytes)?),
            Some(("stall", bytes)) => Fault::Stall(number(bytes)?),
            Some(("corrupt", byte)) => Fault::Corrupt(number(byte)?),
            None if fault == "ignore-range" => Fault::IgnoreRange,
            None => match fault.parse() {
                Ok(status @ 400..=599) => Fault::Status(status),
                _ => return Err(bad()),
            },
            Some(_) => return Err(bad()),
        };
        if path.is_empty() {
            return Err(bad());
        }
        Ok(FaultRule {
            fault,
            path: path.to_owned(),
            count,
        })
    }
}

impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Status(status) => write!(f, "{status}")?,
            Fault::Cut(bytes) => write!(f, "cut={bytes}")?,
            Fault::Stall(bytes) => write!(f, "stall={bytes}")?,
            Fault::IgnoreRange => write!(f, "ignore-range")?,
            Fault::Corrupt(byte) => write!(f, "corrupt={byte}")?,
        }
        write!(f, "@{}", self.path)?;
        self.count.map_or(Ok(()), |count| write!(f, "#{count}"))
    }
}

/// The faults of a server. Clones are handles to the same faults; changes count from the next
/// request on.
#[derive(Debug, Clone)]
pub struct Faults {
    rules: Arc<Mutex<Vec<FaultRule>>>,
    released: Arc<watch::Sender<u64>>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            rules: Arc::default(),
            released: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Faults {
    fn rules(&self) -> MutexGuard<'_, Vec<FaultRule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule. A request suffers from every rule that matches it.
    pub fn add(&self, rule: FaultRule) {
        self.rules().push(rule);
    }

    /// Removes all rules. Answers that stall already go on stalling.
    pub fn clear(&self) {
        self.rules().clear();
    }

    /// Lets every answer go on that stalls now.
    pub fn release(&self) {
        self.released.send_modify(|generation| *generation += 1);
    }

    /// What befalls a request for `path` that arrives now. Counts it.
    pub(crate) fn plan(&self, path: &str) -> FaultPlan {
        let mut plan = FaultPlan::default();
        for rule in self.rules().iter_mut().filter(|rule| rule.matches(path)) {
            match &mut rule.count {
                Some(0) => continue,
                Some(left) => *left -= 1,
                None => {}
            }
            match rule.fault {
                Fault::Status(status) => plan.status = Some(status),
                Fault::Cut(bytes) => plan.cut = Some(bytes),
                Fault::Stall(bytes) => plan.stall = Some((bytes, self.released.subscribe())),
                Fault::IgnoreRange => plan.ignore_range = true,
                Fault::Corrupt(byte) => plan.corrupt = Some(byte),
            }
        }
        plan
    }
}

/// Everything that befalls one request.
#[derive(Debug, Default)]
pub(crate) struct FaultPlan {
    pub(crate) status: Option<u16>,
    pub(crate) cut: Option<u64>,
    /// After how many bytes to stall, and what tells when to go on.
    pub(crate) stall: Option<(u64, watch::Receiver<u64>)>,
    pub(crate) ignore_range: bool,
    pub(crate) corrupt: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_paths() {
        for (pattern, path, expected) in [
            ("*", "/a/b", true),
            ("*.raw", "/targets/x.raw", true),
            ("*.raw", "/targets/x.raw.sig", false),
            ("manifest.json", "/targets/manifest.json", true),
            ("/targets/", "/targets/a/b", true),
            ("/targets/", "/metadata/a", false),
            ("/targets", "/targets/a", false),
            ("/a/*/c?", "/a/b/x/cd", true),
            ("/a/*/c?", "/a/b/x/c", false),
            ("/*a*b", "/xxaxxab", true),
            ("/*a*b", "/xxaxxabc", false),
        ] {
            let rule = FaultRule::new(Fault::Status(404), pattern);
            assert_eq!(rule.matches(path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn text_and_back() {
        for text in [
            "404@/a/*#3",
            "500@*",
            "cut=1000@*.raw#1",
            "stall=0@/x",
            "ignore-range@*",
            "corrupt=7@/a@b",
        ] {
            assert_eq!(text.parse::<FaultRule>().unwrap().to_string(), text);
        }
        for text in [
            "", "404", "200@*", "999@*", "cut@*", "cut=@*", "cut=-1@*", "404@", "404@*#x",
            "melt@*", "melt=1@*",
        ] {
            assert!(text.parse::<FaultRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_count_runs_out() {
        let faults = Faults::default();
        faults.add(FaultRule::new(Fault::Status(500), "/a").first(2));
        assert_eq!(faults.plan("/b").status, None);
        assert_eq!(faults.plan("/a").status, Some(500));
        assert_eq!(faults.plan("/a").status, Some(500));
        assert_eq!(faults.plan("/a").status, None);
    }
}
