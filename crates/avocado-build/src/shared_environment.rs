//! What a result follows from beside the inputs of its step: what a stamp takes for granted, since its
//! machine has one of each.

use avocado_backend::{Processor, ToolQuery};
use serde_json::{Map, Value, json};

use crate::build_context::BuildContext;
use crate::error::BuildError;

/// Who installs.
const INSTALLERS: [ToolQuery; 2] = [version_of("dnf"), version_of("rpm")];

/// What scriptlets call, beside what answers for the tree: the tools that few of them do without.
const OF_SCRIPTLETS: [ToolQuery; 5] = [
    version_of("sh"),
    version_of("ls"),
    version_of("sed"),
    version_of("grep"),
    version_of("awk"),
];

const fn version_of(tool: &'static str) -> ToolQuery {
    ToolQuery {
        tool,
        arguments: &["--version"],
    }
}

/// Of an image without scripts: its writer, and whatever else shapes it, is among the inputs.
pub(crate) fn of_image(context: &BuildContext<'_>) -> Value {
    of_machine(context)
}

/// Of every result: the processor that tools are for, and that those of the SDK are for.
fn of_machine(context: &BuildContext<'_>) -> Value {
    json!({
        "architecture": Processor::HOST.as_str(),
        "sdk_architecture": context.layout.sdk_processor().as_str(),
    })
}

/// Of an installed tree: what unpacks packages, and what runs their scriptlets. `None` where one of these
/// tools is not there: what is made without it is not what other machines want.
pub(crate) fn of_install(
    context: &BuildContext<'_>,
    has_scriptlets: bool,
) -> Result<Option<Value>, BuildError> {
    let of_scriptlets = OF_SCRIPTLETS.iter().filter(|_| has_scriptlets);
    let mut tools = Map::new();
    for query in INSTALLERS.iter().chain(of_scriptlets) {
        let Some(identity) = context.tool(query)? else {
            return Ok(None);
        };
        tools.insert(query.tool.to_owned(), identity.into());
    }
    let mut environment = of_machine(context);
    environment["tools"] = tools.into();
    if let Some(emulation) = context.emulation()?.filter(|_| has_scriptlets) {
        // What scriptlets could not do here, they do on other machines.
        if !emulation.has_emulator() {
            return Ok(None);
        }
        environment["emulation"] = json!(emulation);
    }
    Ok(Some(environment))
}
