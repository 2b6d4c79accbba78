//! `systemctl`, as far as it is about files.

use avocado_backend::{Tool, ToolError, ToolQuery};
use avocado_events::Silent;

use super::{Call, CommandEnd, Note};
use crate::error::BuildError;

/// The host's, which works on any tree: it enables what scriptlets and presets ask for.
pub(crate) const SYSTEMCTL: ToolQuery = ToolQuery {
    tool: "systemctl",
    arguments: &["--version"],
};

/// What changes which services there are, without a running systemd.
const OF_FILES: [&str; 10] = [
    "add-requires",
    "add-wants",
    "disable",
    "enable",
    "is-enabled",
    "mask",
    "preset",
    "preset-all",
    "set-default",
    "unmask",
];

/// The tool of the host does it. Whatever is about a running system succeeds.
pub(super) fn systemctl(call: &Call<'_>) -> Result<CommandEnd, BuildError> {
    let arguments = without_root(call.arguments);
    let verb = arguments.iter().find(|word| !word.starts_with('-'));
    let Some(verb) = verb.filter(|verb| OF_FILES.contains(&verb.as_str())) else {
        return Ok(CommandEnd::default());
    };
    if !call.settings.is_system {
        if verb.as_str() != "is-enabled" {
            call.note(&Note::Told(format!(
                "`systemctl {}` does nothing in an extension: its `enable_services` says what is \
                 enabled",
                arguments.join(" ")
            )))?;
        }
        return Ok(CommandEnd::default());
    }
    let now = |word: &&String| *word == "--now";
    let tool = Tool::new(SYSTEMCTL.tool)
        .env("PATH", &call.settings.search_path)
        .arg(format!("--root={}", call.settings.root.display()))
        .args(arguments.iter().filter(|word| !now(word)));
    match tool.read(&Silent) {
        Ok(output) => Ok(CommandEnd {
            output,
            ..CommandEnd::default()
        }),
        Err(ToolError::Failed { status, output, .. }) => {
            let status = status.code().and_then(|code| u8::try_from(code).ok());
            Ok(CommandEnd::failed(status.unwrap_or(1), output.join("\n")))
        }
        Err(error) => Ok(CommandEnd::failed(1, avocado_events::chain(&error))),
    }
}

/// The root directory is the tree, however the scriptlet states it.
fn without_root(arguments: &[String]) -> Vec<String> {
    let mut words = arguments.iter();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--root" {
            words.next();
        } else if !word.starts_with("--root=") {
            kept.push(word.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::tests::Commands;
    use super::*;

    #[test]
    fn a_running_system_is_not_there_to_be_changed() {
        let commands = Commands::new(true);
        for line in [
            "systemctl",
            "systemctl daemon-reload",
            "systemctl --root=/x start a",
        ] {
            assert_eq!(commands.call(line), CommandEnd::default(), "{line}");
        }
    }

    #[test]
    fn an_extension_says_itself_what_it_enables() {
        let commands = Commands::new(false);
        let end = commands.call("systemctl --root=/x enable app.service");
        assert_eq!(end, CommandEnd::default());
        let told = commands.notes().unwrap();
        assert!(
            told[0].starts_with("`systemctl enable app.service` does"),
            "{told:?}"
        );
    }

    #[test]
    fn services_are_enabled_in_the_tree() {
        let commands = Commands::new(true);
        if Tool::new("systemctl")
            .arg("--version")
            .read(&Silent)
            .is_err()
        {
            let name = "services_are_enabled_in_the_tree";
            avocado_test_support::skip(name, "systemctl is not installed");
            return;
        }
        let unit = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
        let tree = commands.tree();
        tree.write("usr/lib/systemd/system/app.service", unit, 0o644)
            .unwrap();
        let end = commands.call("systemctl --root /x enable --now app.service");
        assert_eq!(end.status, 0, "{end:?}");
        assert!(tree.has("etc/systemd/system/multi-user.target.wants/app.service"));
        assert_ne!(commands.call("systemctl enable none.service").status, 0);
    }
}
