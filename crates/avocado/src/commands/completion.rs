//! `avocado completion`.

use clap::Args;

use crate::failure::Result;
use crate::output::write_data;

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell to complete for
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "avocado", &mut script);
    write_data(&script)
}
