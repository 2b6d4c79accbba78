//! What the guest told of a run.

use std::collections::BTreeSet;

use serde_json::Value;

/// One file that the guest wrote: in which run, and which one.
pub(crate) type WrittenFile = (u32, u32);

/// What `avocadoctl` and the boot loader said at one moment.
#[derive(Debug)]
pub(crate) struct DeviceAnswer {
    /// `status`
    pub(crate) status: Value,
    /// `runtime list`
    pub(crate) list: Value,
    /// The slot that the boot loader starts next, as the guest reads it.
    pub(crate) next: String,
}

impl DeviceAnswer {
    pub(crate) fn active(&self) -> &str {
        self.status["runtime"]["id"].as_str().unwrap_or_default()
    }

    /// The state of the update of the OS; empty where there is none.
    pub(crate) fn update(&self) -> (&str, &str) {
        let update = &self.status["osUpdate"];
        let text = |name: &str| update[name].as_str().unwrap_or_default();
        (text("state"), text("runtimeId"))
    }

    pub(crate) fn lists(&self, id: &str) -> bool {
        let text = self.list.to_string();
        text.contains(id)
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct GuestReport {
    /// It came up.
    pub(crate) is_up: bool,
    /// It looked at all files of the run before.
    pub(crate) is_checked: bool,
    /// Files that are there, whole.
    pub(crate) whole: BTreeSet<WrittenFile>,
    /// Files that it has synced.
    pub(crate) synced: BTreeSet<WrittenFile>,
    /// Steps that ended, and with which code.
    pub(crate) steps: Vec<(String, i32)>,
    pub(crate) answers: Vec<DeviceAnswer>,
}

impl GuestReport {
    pub(crate) fn read(said: &str) -> Self {
        let mut report = GuestReport::default();
        let mut document: Option<(String, String)> = None;
        let (mut status, mut list) = (Value::Null, Value::Null);
        // The writer speaks while a document is printed, a line at a time.
        for line in said.split_inclusive('\n') {
            let Some(line) = line.strip_suffix('\n') else {
                // It was cut off.
                break;
            };
            let words: Vec<&str> = line.split(' ').collect();
            let file = |of: &str, number: &str| Some((of.parse().ok()?, number.parse().ok()?));
            match words.as_slice() {
                ["up"] => report.is_up = true,
                ["checked"] => report.is_checked = true,
                ["whole", of, number] => report.whole.extend(file(of, number)),
                ["synced", of, number] => report.synced.extend(file(of, number)),
                ["step", name, code] => {
                    let code = code.parse().unwrap_or(-1);
                    report.steps.push(((*name).to_owned(), code));
                }
                ["begin", name] => document = Some(((*name).to_owned(), String::new())),
                ["end", code] => {
                    let (name, text) = document.take().unwrap_or_default();
                    assert_eq!(*code, "0", "{name}: {text}");
                    let value = serde_json::from_str(&text);
                    let value = value.unwrap_or_else(|e| panic!("{name}: {e}: {text}"));
                    if name == "status" {
                        status = value;
                    } else {
                        list = value;
                    }
                }
                ["next", slot] => report.answers.push(DeviceAnswer {
                    status: status.take(),
                    list: list.take(),
                    next: (*slot).to_owned(),
                }),
                _ => {
                    if let Some((_, text)) = &mut document {
                        text.push_str(line);
                        text.push('\n');
                    }
                }
            }
        }
        report
    }

    /// How often a step was done.
    pub(crate) fn done(&self, name: &str) -> usize {
        self.steps.iter().filter(|(of, _)| of == name).count()
    }
}
