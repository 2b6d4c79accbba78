//! What is recorded.

use std::str::FromStr;

use tracing::Level;
use tracing::level_filters::LevelFilter;

/// Which spans and events are recorded: a level for all, and other levels for some targets. The
/// text form is that of `AVOCADO_LOG`: `info`, `warn,avocado_http=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    default: LevelFilter,
    /// By the beginning of the target, which is the name of a crate and its modules.
    targets: Vec<(String, LevelFilter)>,
}

/// A text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a level (off, error, warn, info, debug, trace) or a target with one, such as \
     avocado_http=debug"
)]
pub struct LogFilterError(String);

impl LogFilter {
    /// Everything up to `level`.
    pub fn up_to(level: Level) -> Self {
        LogFilter {
            default: LevelFilter::from_level(level),
            targets: Vec::new(),
        }
    }

    /// Whether it is recorded. The longest target that fits decides.
    pub(crate) fn records(&self, target: &str, level: Level) -> bool {
        let fits = |known: &str| match target.strip_prefix(known) {
            Some(rest) => rest.is_empty() || rest.starts_with("::"),
            None => false,
        };
        let known = self.targets.iter().filter(|(known, _)| fits(known));
        let longest = known.max_by_key(|(known, _)| known.len());
        level <= longest.map_or(self.default, |(_, most)| *most)
    }

    /// The most that is recorded of any target.
    pub(crate) fn most(&self) -> LevelFilter {
        let targets = self.targets.iter().map(|(_, level)| *level);
        targets.fold(self.default, Ord::max)
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        let mut filter = LogFilter {
            default: LevelFilter::OFF,
            targets: Vec::new(),
        };
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let wrong = || LogFilterError(part.escape_debug().to_string());
            match part.split_once('=') {
                None => filter.default = level(part).ok_or_else(wrong)?,
                Some((target, most)) => {
                    let most = level(most).ok_or_else(wrong)?;
                    filter.targets.push((target.trim().to_owned(), most));
                }
            }
        }
        Ok(filter)
    }
}

fn level(word: &str) -> Option<LevelFilter> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_target_decides() {
        let filter: LogFilter = "warn, avocado_http=debug,avocado_http::tls=off"
            .parse()
            .unwrap();
        for (target, level, recorded) in [
            ("avocado", Level::WARN, true),
            ("avocado", Level::INFO, false),
            ("avocado_http", Level::DEBUG, true),
            ("avocado_http::agent", Level::DEBUG, true),
            ("avocado_http::agent", Level::TRACE, false),
            ("avocado_http::tls", Level::ERROR, false),
            ("avocado_httpd", Level::DEBUG, false),
        ] {
            assert_eq!(filter.records(target, level), recorded, "{target} {level}");
        }
        assert_eq!(filter.most(), LevelFilter::DEBUG);
        assert!(!"".parse::<LogFilter>().unwrap().records("a", Level::ERROR));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["verbose", "avocado=", "avocado=1", "info;debug"] {
            let error = text.parse::<LogFilter>().unwrap_err();
            assert!(error.to_string().contains("is not a level"), "{error}");
        }
    }
}
